import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { MedusaShape, ModelShape, TensorEntry } from '../../engine/engine-config.ts'
import { plainEntry } from '../plain-tensor.ts'
import { broken } from '../refusals.ts'
import { readSafetensors } from '../safetensors.ts'
import { readTorchFile } from '../torch/torch-file.ts'
import { checkTensors, type WeightTable } from '../weights.ts'
import { checkMedusaVocabulary, type MedusaConfig, readMedusaConfig } from './medusa-config.ts'

// Medusa heads (arXiv 2401.10774), in the folders that the reference implementation writes (docs/adr/0048).

const FILES = [
  { name: 'medusa_lm_head.safetensors', read: readSafetensors },
  { name: 'medusa_lm_head.pt', read: readTorchFile },
] as const

export interface MedusaHeads {
  readonly folder: string
  readonly shape: MedusaShape
  /** The model that the heads were trained with. */
  readonly baseModel: string | undefined
  /**
   * Block l of head h is `h.l.linear.weight` and `.bias`; two blocks may share their bytes. `h.numLayers.weight` is the
   * head's projection, unless that is lm_head. `next_token.weight` is there if the shape says so.
   */
  readonly weights: WeightTable
}

/** Reads and checks a folder with Medusa heads for a model of this shape. @throws StartupError that names file and tensor. */
export function readMedusaHeads(folder: string, shape: ModelShape): MedusaHeads {
  const config = readMedusaConfig(folder, shape)
  const file = FILES.find(({ name }) => existsSync(join(folder, name)))
  if (!file) {
    const names = FILES.map(({ name }) => name).join(' nor ')
    throw broken(`${folder} has neither ${names}`)
  }
  const path = join(folder, file.name)
  const files = [path]
  const stored = file.read(path).map((tensor) => plainEntry(files, { ...tensor, file: 0 }))
  const { numHeads, numLayers, sharesLmHead, readsNextToken } = config
  const vocabSize = vocabularyOf(path, stored, config, shape)
  const medusa = { numHeads, numLayers, sharesLmHead, readsNextToken, vocabSize }
  const layers = `${numLayers} ${numLayers === 1 ? 'layer' : 'layers'}`
  const owner = `a Medusa model of ${numHeads} heads with ${layers}${sharesLmHead ? ', tie_lm_head' : ''}${readsNextToken ? ', reads_next_token' : ''}`
  return {
    folder,
    shape: medusa,
    baseModel: config.baseModel,
    weights: checkTensors(files, stored, medusaTensors(medusa, shape.hiddenSize), owner),
  }
}

/** The reference's configuration does not say it. */
function vocabularyOf(
  path: string,
  stored: readonly TensorEntry[],
  { vocabSize, numLayers, sharesLmHead }: MedusaConfig,
  shape: ModelShape,
): number {
  if (vocabSize !== undefined) return vocabSize
  if (sharesLmHead) return shape.vocabSize
  const name = `0.${numLayers}.weight`
  const [rows] = stored.find((tensor) => tensor.name === name)?.shape ?? []
  // Without the tensor, checkTensors() says what is missing.
  if (rows === undefined) return shape.vocabSize
  checkMedusaVocabulary(`${path}: ${name}`, rows, shape)
  return rows
}

function medusaTensors(
  { numHeads, numLayers, sharesLmHead, readsNextToken, vocabSize }: MedusaShape,
  hiddenSize: number,
): Map<string, number[]> {
  const tensors = new Map<string, number[]>()
  if (readsNextToken) tensors.set('next_token.weight', [hiddenSize, hiddenSize])
  for (let head = 0; head < numHeads; head++) {
    for (let layer = 0; layer < numLayers; layer++) {
      tensors.set(`${head}.${layer}.linear.weight`, [hiddenSize, hiddenSize])
      tensors.set(`${head}.${layer}.linear.bias`, [hiddenSize])
    }
    if (!sharesLmHead) tensors.set(`${head}.${numLayers}.weight`, [vocabSize, hiddenSize])
  }
  return tensors
}
