import type { ModelShape, TensorEntry } from '../engine/engine-config.ts'
import { llamaTensors } from './llama-tensors.ts'
import type { Quantisation } from './quantised/quantisation.ts'
import { weightEntries } from './quantised/weight-entries.ts'
import { broken, unsupported } from './refusals.ts'
import { readWeightFiles } from './weight-files.ts'

/** Buffers in old checkpoints that can be computed from the configuration; ignored. */
const DERIVED = /\.rotary_emb\.(inv_freq|cos_cached|sin_cached)$/

export interface WeightTable {
  /** Absolute paths. */
  files: string[]
  tensors: TensorEntry[]
}

/**
 * Builds the table of a checkpoint's weights: exactly the tensors that the model needs, with validated shapes.
 * @throws StartupError that names file and tensor.
 */
export function readWeights(folder: string, shape: ModelShape, quantisation?: Quantisation): WeightTable {
  const { files, tensors } = readWeightFiles(folder)
  return checkWeights(files, weightEntries(files, tensors, quantisation, shape), shape)
}

/** The tensors that a model of this shape needs, of those that the files have. @throws StartupError as readWeights. */
export function checkWeights(
  files: string[],
  stored: readonly TensorEntry[],
  shape: ModelShape,
): WeightTable {
  const needless = (name: string) =>
    DERIVED.test(name) || (shape.tieWordEmbeddings && name === 'lm_head.weight')
  const tensors = stored.filter(({ name }) => !needless(name))
  const parts = new Set(tensors.flatMap(partNames))
  const expected = llamaTensors(shape)
  for (const { name, shape: own } of tensors) if (parts.has(name)) expected.set(name, own)
  return checkTensors(files, tensors, expected, 'a model of this architecture')
}

/** Checks that `stored` are exactly the `expected` tensors of `owner`. @throws StartupError as readWeights. */
export function checkTensors(
  files: string[],
  stored: readonly TensorEntry[],
  expected: ReadonlyMap<string, readonly number[]>,
  owner: string,
): WeightTable {
  const found = new Map<string, TensorEntry>()
  for (const tensor of stored) {
    const where = `${files[tensor.file]}: ${tensor.name}`
    const wanted = expected.get(tensor.name)
    if (!wanted) throw unsupported(`${where}: ${owner} has no such tensor`)
    if (found.has(tensor.name)) throw broken(`${where}: stored twice`)
    if (tensor.shape.join() !== wanted.join()) {
      const is = `is [${tensor.shape.join(', ')}], the configuration asks for [${wanted.join(', ')}]`
      throw broken(`${where}: shape ${is}`)
    }
    found.set(tensor.name, tensor)
  }
  for (const name of expected.keys()) {
    if (!found.has(name)) throw broken(`${files[0]}: tensor ${name} is missing`)
  }
  return { files, tensors: [...found.values()] }
}

function partNames({ quantised: layer }: TensorEntry): string[] {
  return [layer?.scales, layer?.zeros, layer?.groups].filter((name) => name !== undefined)
}
