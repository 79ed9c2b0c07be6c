import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { z } from 'zod'
import type { ModelShape } from '../engine/engine-config.ts'
import { plainEntry } from './plain-tensor.ts'
import { readJson } from './read-json.ts'
import { broken } from './refusals.ts'
import { readSafetensors } from './safetensors.ts'
import { readTorchFile } from './torch/torch-file.ts'
import { checkTensors, type WeightTable } from './weights.ts'

// Medusa heads (arXiv 2401.10774), in the folders that its reference implementation writes.

const CONFIG = 'config.json'
const FILES = [
  { name: 'medusa_lm_head.safetensors', read: readSafetensors },
  { name: 'medusa_lm_head.pt', read: readTorchFile },
] as const

/** Far above any in use; small enough that the table of expected tensors stays small. */
const few = z.int().max(64)
const ConfigFile = z.looseObject({
  medusa_num_heads: few.min(1),
  medusa_num_layers: few.min(0),
  base_model_name_or_path: z.string().nullish(),
})

export interface MedusaHeads {
  /** Head i predicts the token i + 2 places after the last one. */
  readonly numHeads: number
  /** Residual layers of each head, before its linear layer. */
  readonly numLayers: number
  /** The model that the heads were trained with. */
  readonly baseModel: string | undefined
  /** Layer l of head h is `h.l.linear.weight` and `.bias`; two layers may share their bytes. `h.numLayers.weight`: logits. */
  readonly weights: WeightTable
}

/** The folder of a checkpoint's Medusa heads; undefined when it has none. */
export function medusaFolder(checkpoint: string): string | undefined {
  const folder = join(checkpoint, 'medusa')
  return existsSync(join(folder, CONFIG)) ? folder : undefined
}

/** What an operator should know of a checkpoint's Medusa heads. */
export function medusaWarnings(checkpoint: string): string[] {
  const folder = medusaFolder(checkpoint)
  if (folder === undefined) return []
  return [`${folder}: Medusa heads are not used yet: tokens are decoded one by one`]
}

/** Reads and checks a folder with Medusa heads for a model of this shape. @throws StartupError that names file and tensor. */
export function readMedusaHeads(folder: string, shape: ModelShape): MedusaHeads {
  const config = readJson(ConfigFile, folder, CONFIG)
  const file = FILES.find(({ name }) => existsSync(join(folder, name)))
  if (!file) {
    const names = FILES.map(({ name }) => name).join(' nor ')
    throw broken(`${folder} has neither ${names}`)
  }
  const files = [join(folder, file.name)]
  const stored = file.read(join(folder, file.name)).map((tensor) => plainEntry(files, { ...tensor, file: 0 }))
  const heads = { numHeads: config.medusa_num_heads, numLayers: config.medusa_num_layers }
  const { medusa_num_heads: count, medusa_num_layers: layers } = config
  const owner = `a Medusa model of ${count} heads with ${layers} layers`
  return {
    ...heads,
    baseModel: config.base_model_name_or_path ?? undefined,
    weights: checkTensors(files, stored, medusaTensors(heads, shape), owner),
  }
}

function medusaTensors(
  { numHeads, numLayers }: Pick<MedusaHeads, 'numHeads' | 'numLayers'>,
  { hiddenSize, vocabSize }: ModelShape,
): Map<string, number[]> {
  const tensors = new Map<string, number[]>()
  for (let head = 0; head < numHeads; head++) {
    for (let layer = 0; layer < numLayers; layer++) {
      tensors.set(`${head}.${layer}.linear.weight`, [hiddenSize, hiddenSize])
      tensors.set(`${head}.${layer}.linear.bias`, [hiddenSize])
    }
    tensors.set(`${head}.${numLayers}.weight`, [vocabSize, hiddenSize])
  }
  return tensors
}
