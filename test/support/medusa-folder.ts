import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { headerOf, type Json, safetensors, VOCAB_SIZE } from './tiny-checkpoint.ts'
import { dict, floats, pickle, tensor, text, torchMembers, zipFile } from './torch-file.ts'

export interface MedusaFolder {
  readonly heads?: number
  readonly layers?: number
  /** Heads that share lm_head. */
  readonly tied?: boolean
  /** Heads that read the next token. */
  readonly reads?: boolean
  readonly hidden?: number
  readonly vocabulary?: number
}

/** The tensors of heads, by the names of the reference implementation. */
export function medusaTensors(options: MedusaFolder = {}): Map<string, number[]> {
  const { heads = 2, layers = 1, tied = false, reads = false } = options
  const { hidden = 8, vocabulary = VOCAB_SIZE } = options
  const tensors = new Map<string, number[]>()
  for (let head = 0; head < heads; head++) {
    for (let layer = 0; layer < layers; layer++) {
      tensors.set(`${head}.${layer}.linear.weight`, [hidden, hidden])
      tensors.set(`${head}.${layer}.linear.bias`, [hidden])
    }
    if (!tied) tensors.set(`${head}.${layers}.weight`, [vocabulary, hidden])
  }
  if (reads) tensors.set('next_token.weight', [hidden, hidden])
  return tensors
}

/** As apar writes it. */
export function medusaConfig(options: MedusaFolder = {}): Json {
  const { heads = 2, layers = 1, tied = false, reads = false } = options
  const { hidden = 8, vocabulary = VOCAB_SIZE } = options
  const reference = { medusa_num_heads: heads, medusa_num_layers: layers, base_model_name_or_path: 'tiny' }
  const own = { hidden_size: hidden, vocab_size: vocabulary, tie_lm_head: tied, reads_next_token: reads }
  return { ...reference, ...own }
}

/** Writes a folder with heads, and returns its path. `config` replaces fields of medusaConfig(). */
export function writeMedusa(
  folder: string,
  options: MedusaFolder = {},
  { tensors = medusaTensors(options), config = {} }: { tensors?: Map<string, number[]>; config?: Json } = {},
): string {
  mkdirSync(folder, { recursive: true })
  writeFileSync(join(folder, 'config.json'), JSON.stringify({ ...medusaConfig(options), ...config }))
  writeFileSync(join(folder, 'medusa_lm_head.safetensors'), safetensors(headerOf(tensors)))
  return folder
}

/** The same as the reference implementation saves it; `share` names the storage of a tensor, by default its own. */
export function writeTorchMedusa(
  folder: string,
  options: MedusaFolder = {},
  share: (name: string) => string = (name) => name,
): string {
  mkdirSync(folder, { recursive: true })
  const { heads = 2, layers = 1 } = options
  const config = { medusa_num_heads: heads, medusa_num_layers: layers, base_model_name_or_path: 'tiny' }
  writeFileSync(join(folder, 'config.json'), JSON.stringify(config))
  const storages = new Map<string, { key: string; elements: number }>()
  const entries = [...medusaTensors(options)].flatMap(([name, shape]) => {
    const elements = shape.reduce((product, size) => product * size, 1)
    const found = storages.get(share(name)) ?? { key: String(storages.size), elements }
    storages.set(share(name), found)
    return [text(name), tensor({ ...found, shape })]
  })
  const data = Object.fromEntries([...storages.values()].map(({ key, elements }) => [key, floats(elements)]))
  const file = zipFile(torchMembers(pickle(dict(...entries)), data))
  writeFileSync(join(folder, 'medusa_lm_head.pt'), file)
  return folder
}
