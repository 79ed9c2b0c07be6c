import { type Checkpoint, readCheckpoint } from '../../gpu-node/checkpoint/checkpoint.ts'
import { describeMedusa, medusaBytes } from '../../gpu-node/checkpoint/medusa/describe-medusa.ts'
import { tensorBytes } from '../../gpu-node/checkpoint/tensor-blocks.ts'
import { withDefaultDType } from '../../gpu-node/default-dtype.ts'
import { planMemory } from '../../gpu-node/engine/binding.ts'
import {
  BLOCK_TOKENS,
  CUDA_DTYPES,
  type Device,
  DTYPES,
  type DType,
  type MedusaShape,
} from '../../gpu-node/engine/engine-config.ts'
import type { MemoryPlan } from '../../gpu-node/engine/memory-plan.ts'
import { toEngineConfig } from '../../gpu-node/engine-options.ts'
import { StartupError } from '../../gpu-node/startup-error.ts'
import { PromptPool } from '../../gpu-node/text/prompt-pool.ts'
import { AparError } from '../../shared/errors.ts'
import type { ChatMessage } from '../../shared/protocol/request.ts'

/** What a checkpoint is and what it would take to serve it. Of the weights, samples are read, for the digest. */
export interface Inspection {
  readonly path: string
  readonly architecture: string
  /** Weights of all tensors. */
  readonly parameters: number
  readonly bytes: number
  /** As stored, the largest first. */
  readonly formats: readonly StoredFormat[]
  readonly shape: Pick<
    Checkpoint['shape'],
    'numLayers' | 'hiddenSize' | 'intermediateSize' | 'numHeads' | 'numKvHeads' | 'headDim' | 'contextTokens'
  >
  readonly tokens: {
    readonly vocabulary: number
    readonly bos: Token | undefined
    readonly eos: readonly Token[]
    readonly fork: Token | undefined
    readonly child: Token | undefined
  }
  /** Undefined for a model without a chat template. */
  readonly template: { readonly file: string; readonly prompt: string; readonly tokens: number } | undefined
  readonly branching: 'forks' | 'serial'
  /** Heads that draft tokens; undefined for a model without them. */
  readonly medusa: (MedusaShape & { readonly bytes: number; readonly description: string }) | undefined
  /** What an operator should know: a sentence each. */
  readonly warnings: readonly string[]
  readonly memory: readonly DTypeMemory[]
  readonly digest: string
}

export interface StoredFormat {
  readonly dtype: string
  readonly tensors: number
  readonly parameters: number
  readonly bytes: number
}

export interface Token {
  readonly id: number
  /** Undefined when the tokenizer does not name it. */
  readonly text: string | undefined
}

export interface DTypeMemory {
  readonly dtype: DType
  /** What `--dtype` is when it is not given. */
  readonly isDefault: boolean
  /** Undefined when this machine has no device for the dtype; `problem` says so. */
  readonly plan: MemoryPlan | undefined
  readonly kvBytesPer1000Tokens: number | undefined
  readonly fits: boolean
  readonly problem: string | undefined
}

/** What the template is shown with. */
export const SAMPLE: readonly ChatMessage[] = [{ role: 'user', content: 'Hello!' }]

/** @throws StartupError that names the file and field at fault. */
export async function inspectModel(
  path: string,
  device: Device = 'auto',
  {
    adapter,
    medusa: heads,
  }: { readonly adapter?: string | undefined; readonly medusa?: string | undefined } = {},
): Promise<Inspection> {
  const checkpoint = readCheckpoint(path, { adapter, medusa: heads })
  const { shape, weights, medusa, tokens, text, digest } = checkpoint
  const formats = storedFormats(weights.tensors)
  const total = (of: 'parameters' | 'bytes') => formats.reduce((sum, format) => sum + format[of], 0)
  const texts = tokenTexts(checkpoint)
  const named = (id: number): Token => ({ id, text: texts.get(id) })
  const bos = text.tokenizer.added_tokens.find(({ content }) => content === text.named.bos_token)?.id
  const { template, warnings } = await tryTemplate(checkpoint, texts)
  const byDefault = toEngineConfig(checkpoint, withDefaultDType(checkpoint, { device })).dtype
  return {
    path: checkpoint.path,
    architecture: checkpoint.architecture,
    parameters: total('parameters'),
    bytes: total('bytes'),
    formats,
    shape,
    tokens: {
      vocabulary: shape.vocabSize,
      bos: bos === undefined ? undefined : named(bos),
      eos: tokens.eos.map(named),
      fork: tokens.fork === undefined ? undefined : named(tokens.fork),
      child: tokens.child === undefined ? undefined : named(tokens.child),
    },
    template,
    branching: tokens.fork === undefined ? 'serial' : 'forks',
    medusa: medusa && { ...medusa.shape, bytes: medusaBytes(medusa), description: describeMedusa(medusa) },
    warnings: [...checkpoint.warnings, ...warnings],
    memory: DTYPES.map((dtype) => memoryOf(checkpoint, dtype, device, byDefault)),
    digest,
  }
}

function storedFormats(tensors: Checkpoint['weights']['tensors']): StoredFormat[] {
  const formats = new Map<string, StoredFormat>()
  for (const { dtype, shape } of tensors) {
    const before = formats.get(dtype) ?? { dtype, tensors: 0, parameters: 0, bytes: 0 }
    formats.set(dtype, {
      dtype,
      tensors: before.tensors + 1,
      parameters: before.parameters + shape.reduce((product, length) => product * length, 1),
      bytes: before.bytes + tensorBytes(dtype, shape),
    })
  }
  return [...formats.values()].sort((a, b) => b.bytes - a.bytes)
}

/** By id. */
function tokenTexts({ text: { tokenizer } }: Checkpoint): ReadonlyMap<number, string> {
  const added = tokenizer.added_tokens.map(({ id, content }): [number, string] => [id, content])
  const pieces = Object.entries(tokenizer.model.vocab).map(([piece, id]): [number, string] => [id, piece])
  // Of several texts the last one stays in a map: the first added token's, or the first piece's.
  return new Map([...added, ...pieces].reverse())
}

/** Encodes the sample as a request's prompt, in a thread with a time limit, and reads it back from its tokens. */
async function tryTemplate(
  checkpoint: Checkpoint,
  texts: ReadonlyMap<number, string>,
): Promise<Pick<Inspection, 'template' | 'warnings'>> {
  const { text: files, tokens, shape } = checkpoint
  const { fork, child, eos } = tokens
  const controlIds = [fork, child, ...eos].filter((id) => id !== undefined)
  const prompts = await PromptPool.open({ files, controlIds, vocabSize: shape.vocabSize })
  try {
    if (!files.chatTemplate) {
      const what = 'there is no chat template: the model completes plain prompts, and has no chats'
      return { template: undefined, warnings: [what] }
    }
    const ids = await prompts.encode({ messages: [...SAMPLE] }, shape.contextTokens)
    const pieces = [...ids].map((id) => prompts.bytes.of(id) ?? Buffer.from(texts.get(id) ?? ''))
    const prompt = Buffer.concat(pieces).toString('utf8')
    return { template: { file: files.chatTemplate.file, prompt, tokens: ids.length }, warnings: [] }
  } catch (error) {
    if (!(error instanceof AparError)) throw error
    return { template: undefined, warnings: [`the chat template refuses a short question: ${error.message}`] }
  } finally {
    await prompts.close()
  }
}

function memoryOf(checkpoint: Checkpoint, dtype: DType, device: Device, byDefault: DType): DTypeMemory {
  const isDefault = byDefault === dtype
  try {
    const plan = planMemory(toEngineConfig(checkpoint, { dtype, device }))
    if (plan.device === 'cpu' && CUDA_DTYPES.some((each) => each === dtype)) {
      const problem = 'needs a CUDA device'
      return { dtype, isDefault, plan: undefined, kvBytesPer1000Tokens: undefined, fits: false, problem }
    }
    const kvBytesPer1000Tokens = (plan.blockBytes / BLOCK_TOKENS) * 1000
    const { refusal } = plan
    return { dtype, isDefault, plan, kvBytesPer1000Tokens, fits: refusal === undefined, problem: refusal }
  } catch (error) {
    if (!(error instanceof StartupError) || error.code === 'engine_missing') throw error
    return {
      dtype,
      isDefault,
      plan: undefined,
      kvBytesPer1000Tokens: undefined,
      fits: false,
      problem: error.message,
    }
  }
}
