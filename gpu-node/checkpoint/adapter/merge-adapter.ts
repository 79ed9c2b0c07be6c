import type { ModelShape, TensorEntry } from '../../engine/engine-config.ts'
import { llamaTensors } from '../llama-tensors.ts'
import { plainDtype } from '../plain-tensor.ts'
import { broken, unsupported } from '../refusals.ts'
import type { StoredTensor } from '../safetensors.ts'
import type { WeightTable } from '../weights.ts'
import { type AdapterConfig, readAdapterConfig } from './adapter-config.ts'
import { type ModuleTensors, readAdapterTensors } from './adapter-tensors.ts'
import { untieHead } from './untie-head.ts'

const EMBEDDING = 'model.embed_tokens'
const HEAD = 'lm_head'
const WEIGHT = '.weight'

export interface MergedModel {
  readonly shape: ModelShape
  readonly weights: WeightTable
}

/**
 * The model with a peft LoRA folder's changes. No weight is computed here: the table says what the engine adds and
 * replaces when it loads a tensor (`lora`, `replacedRows`).
 * @throws StartupError that names the file and the tensor or field.
 */
export function mergeAdapter(base: MergedModel, folder: string): MergedModel {
  const config = readAdapterConfig(folder)
  const { path, modules } = readAdapterTensors(folder)
  return new AdapterMerge(base, config, path, modules).merged()
}

class AdapterMerge {
  readonly #base: MergedModel
  readonly #config: AdapterConfig
  readonly #path: string
  readonly #modules: Map<string, ModuleTensors>
  /** The adapter's file in the merged table. */
  readonly #file: number

  constructor(base: MergedModel, config: AdapterConfig, path: string, modules: Map<string, ModuleTensors>) {
    this.#base = base
    this.#config = config
    this.#path = path
    this.#modules = modules
    this.#file = base.weights.files.length
  }

  merged(): MergedModel {
    this.#checkModules()
    const { tied, modules } = untieHead(this.#base.shape.tieWordEmbeddings, this.#modules, {
      embedding: EMBEDDING,
      head: HEAD,
      refuse: (what) => this.#unsupported(what),
    })
    const shape = { ...this.#base.shape, tieWordEmbeddings: tied, vocabSize: this.#vocabSize(modules) }
    const expected = llamaTensors(shape)
    const stored = new Map(this.#base.weights.tensors.map((tensor) => [tensor.name, tensor]))
    if (!tied && this.#base.shape.tieWordEmbeddings) {
      const table = stored.get(EMBEDDING + WEIGHT)
      if (table) stored.set(HEAD + WEIGHT, { ...table, name: HEAD + WEIGHT })
    }
    const tensors = [...stored.values()].flatMap((tensor) => {
      const module = tensor.name.slice(0, -WEIGHT.length)
      const wanted = tensor.name.endsWith(WEIGHT) ? expected.get(tensor.name) : undefined
      return wanted ? this.#updated(tensor, module, modules.get(module) ?? {}, wanted) : [tensor]
    })
    return { shape, weights: { files: [...this.#base.weights.files, this.#path], tensors } }
  }

  /** What the configuration names is there, and nothing that it does not name. */
  #checkModules(): void {
    const { targets, modulesToSave } = this.#config
    const matrices = [...llamaTensors({ ...this.#base.shape, tieWordEmbeddings: false })]
    const names = new Set(matrices.map(([name]) => name.slice(0, -WEIGHT.length)))
    for (const module of this.#modules.keys())
      if (!names.has(module)) this.#broken(`${module}: the base has no such module`)
    for (const [name, { length }] of matrices) {
      const module = name.slice(0, -WEIGHT.length)
      const { a, b, embeddingA, embeddingB } = this.#modules.get(module) ?? {}
      const adapted = Boolean(a ?? b ?? embeddingA ?? embeddingB)
      const targeted = length === 2 ? targets(module) : undefined
      // ensure_weight_tying adapts the head with the table, without naming it.
      if (targeted === false && adapted && module !== HEAD)
        this.#broken(`${module}: target_modules does not name it`)
      if (targeted === true && !adapted)
        this.#broken(`${module}: target_modules names it, but it has no LoRA`)
    }
    for (const saved of modulesToSave) {
      const found = [...this.#modules].some(
        ([module, { whole }]) => whole && `.${module}.`.includes(`.${saved}.`),
      )
      if (!found) this.#broken(`${saved}: modules_to_save names it, but it is not stored`)
    }
    for (const [name, tokens] of this.#config.trainedTokens) this.#checkTrained(name, tokens)
  }

  #checkTrained(name: string, tokens: readonly number[]): void {
    const module = [EMBEDDING, HEAD].find((each) => isModule(each, name))
    if (!module) this.#unsupported(`trainable_token_indices: ${name} is neither ${EMBEDDING} nor ${HEAD}`)
    const rowsOf = (each: string) => this.#modules.get(each)?.rows
    // Trained on the same tokens, a tied head has no rows of its own.
    const shared = this.#base.shape.tieWordEmbeddings && this.#tokenList(EMBEDDING)?.join() === tokens.join()
    if (tokens.length > 0 && !rowsOf(module) && !(shared && rowsOf(EMBEDDING)))
      this.#broken(`${module}: trainable_token_indices names it, but it has no rows`)
  }

  #tokenList(module: string): readonly number[] | undefined {
    return [...this.#config.trainedTokens].find(([name]) => isModule(module, name))?.[1]
  }

  /** An embedding that is stored whole has the vocabulary's size; else trained tokens may lie beyond the base's. */
  #vocabSize(modules: ReadonlyMap<string, ModuleTensors>): number {
    const both = [EMBEDDING, HEAD].map((module) => [module, modules.get(module) ?? {}] as const)
    const stored = both.flatMap(([, { whole, base }]) => whole ?? base ?? [])
    const first = stored[0]?.shape[0]
    const other = stored.find(({ shape }) => shape[0] !== first)
    if (other) this.#broken(`${other.name}: has ${other.shape[0]} tokens, ${stored[0]?.name} has ${first}`)
    if (first !== undefined) return first
    const trained = both.flatMap(([module, { rows }]) => (rows ? this.#tokensOf(module, rows) : []))
    return trained.reduce((size, token) => Math.max(size, token + 1), this.#base.shape.vocabSize)
  }

  /** The entry of one of the base's tensors, and those of the adapter's tensors that change it. */
  #updated(
    tensor: TensorEntry,
    module: string,
    adapter: ModuleTensors,
    wanted: readonly number[],
  ): TensorEntry[] {
    const { name } = tensor
    const { whole, base, rows } = adapter
    const replacement = whole ?? base
    const entry = replacement ? this.#entry(name, replacement, wanted) : { ...tensor }
    const lora = this.#lora(module, adapter, wanted)
    if (whole && (lora || rows))
      this.#unsupported(`${whole.name}: ${module} is replaced and trained in parts`)
    if (lora && rows) this.#unsupported(`${rows.name}: ${module} has LoRA and trained tokens`)
    if (lora) {
      const { scale, transposed, a, b } = lora
      return [{ ...entry, lora: { scale, transposed } }, ...[a, b]]
    }
    if (!rows) {
      if (entry.shape[0] !== wanted[0]) this.#missingRows(entry, wanted)
      return [entry]
    }
    const replacedRows = [...this.#tokensOf(module, rows)]
    const [size = 0, width = 0] = wanted
    const known = entry.shape[0] ?? 0
    const added = new Set(replacedRows.filter((token) => token >= known))
    if (known + added.size !== size) this.#missingRows(entry, wanted)
    return [{ ...entry, replacedRows }, this.#entry(`${name}.rows`, rows, [replacedRows.length, width])]
  }

  #missingRows({ name, shape }: TensorEntry, [size]: readonly number[]): never {
    return this.#broken(
      `${name}: the base has ${shape[0]} tokens, of the ${size} here not all others are stored`,
    )
  }

  #lora(
    module: string,
    { a, b, embeddingA, embeddingB }: ModuleTensors,
    [rows = 0, columns = 0]: readonly number[],
  ) {
    const transposed = Boolean(embeddingA ?? embeddingB)
    if (transposed && (a ?? b)) this.#broken(`${module}: has LoRA of an embedding and of a linear layer`)
    const [left, right] = transposed ? [embeddingA, embeddingB] : [a, b]
    if (!left && !right) return undefined
    if (!left || !right)
      return this.#broken(`${(left ?? right)?.name}: the other half of the pair is missing`)
    const rank = this.#config.rankOf(module)
    const scale = this.#config.scaleOf(module)
    if (!Number.isFinite(Math.fround(scale)))
      return this.#broken(`${module}: lora_alpha gives the factor ${scale}`)
    const name = module + WEIGHT
    return {
      scale,
      transposed,
      a: this.#entry(`${name}.lora_A`, left, [rank, transposed ? rows : columns]),
      b: this.#entry(`${name}.lora_B`, right, [transposed ? columns : rows, rank]),
    }
  }

  #tokensOf(module: string, rows: StoredTensor): readonly number[] {
    // A head that was tied to the table was trained on the same tokens.
    const tokens = this.#tokenList(module) ?? this.#tokenList(EMBEDDING) ?? []
    if (tokens.length !== rows.shape[0])
      this.#broken(`${rows.name}: ${rows.shape[0]} rows for ${tokens.length} trainable_token_indices`)
    if (new Set(tokens).size < tokens.length)
      this.#broken(`${rows.name}: trainable_token_indices has a token twice`)
    return tokens
  }

  #entry(name: string, tensor: StoredTensor, wanted: readonly number[]): TensorEntry {
    const where = `${this.#path}: ${tensor.name}`
    if (tensor.shape.join() !== wanted.join()) {
      const is = `is [${tensor.shape.join(', ')}], the base and ${this.#config.file} ask for`
      throw broken(`${where}: shape ${is} [${wanted.join(', ')}]`)
    }
    const { offset, dtype, shape } = tensor
    return { name, file: this.#file, offset, dtype: plainDtype(dtype, where), shape }
  }

  #broken(what: string): never {
    throw broken(`${this.#path}: ${what}`)
  }

  #unsupported(what: string): never {
    throw unsupported(`${this.#path}: ${what}`)
  }
}

function isModule(module: string, name: string): boolean {
  return module === name || module.endsWith(`.${name}`)
}
