import { existsSync } from 'node:fs'
import { basename, join, resolve } from 'node:path'
import { z } from 'zod'
import type { ModelShape, TensorEntry } from '../engine/engine-config.ts'
import { StartupError } from '../startup-error.ts'
import { llamaTensors } from './llama-tensors.ts'
import type { Quantisation } from './quantised/quantisation.ts'
import { servedTensors } from './quantised/served-tensors.ts'
import type { LocatedTensor } from './quantised/stored-parts.ts'
import { readJson } from './read-json.ts'
import { readSafetensors } from './safetensors.ts'

const SINGLE = 'model.safetensors'
const INDEX = 'model.safetensors.index.json'
const IndexFile = z.looseObject({ weight_map: z.record(z.string(), z.string()) })

/** Buffers in old checkpoints that can be computed from the configuration; ignored. */
const DERIVED = /\.rotary_emb\.inv_freq$/

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
  const { files, stored } = existsSync(join(folder, SINGLE)) ? readSingle(folder) : readSharded(folder)
  return checkWeights(files, servedTensors(files, stored, quantisation, shape), shape)
}

/** The tensors that a model of this shape needs, of those that the files have. @throws StartupError as readWeights. */
export function checkWeights(
  files: string[],
  stored: readonly TensorEntry[],
  shape: ModelShape,
): WeightTable {
  const expected = llamaTensors(shape)
  const partsOfLayers = new Set(stored.flatMap(partNames))
  const found = new Map<string, TensorEntry>()
  for (const tensor of stored) {
    const where = `${files[tensor.file]}: ${tensor.name}`
    const wanted = partsOfLayers.has(tensor.name) ? tensor.shape : expected.get(tensor.name)
    if (!wanted) {
      if (DERIVED.test(tensor.name) || (shape.tieWordEmbeddings && tensor.name === 'lm_head.weight')) continue
      throw new StartupError('unsupported_checkpoint', `${where}: a Llama model has no such tensor`)
    }
    if (found.has(tensor.name)) throw new StartupError('broken_checkpoint', `${where}: stored twice`)
    if (tensor.shape.join() !== wanted.join()) {
      const is = `is [${tensor.shape.join(', ')}], the configuration asks for [${wanted.join(', ')}]`
      throw new StartupError('broken_checkpoint', `${where}: shape ${is}`)
    }
    found.set(tensor.name, tensor)
  }
  for (const name of expected.keys()) {
    if (!found.has(name))
      throw new StartupError('broken_checkpoint', `${files[0]}: tensor ${name} is missing`)
  }
  return { files, tensors: [...found.values()] }
}

function partNames({ quantised: layer }: TensorEntry): string[] {
  return [layer?.scales, layer?.zeros, layer?.groups].filter((name) => name !== undefined)
}

interface Stored {
  files: string[]
  stored: LocatedTensor[]
}

function readSingle(folder: string): Stored {
  const path = resolve(folder, SINGLE)
  return { files: [path], stored: readSafetensors(path).map((tensor) => ({ ...tensor, file: 0 })) }
}

function readSharded(folder: string): Stored {
  if (!existsSync(join(folder, INDEX))) {
    throw new StartupError('broken_checkpoint', `${folder} has neither ${SINGLE} nor ${INDEX}`)
  }
  const map = new Map(Object.entries(readJson(IndexFile, folder, INDEX).weight_map))
  const names = [...new Set(map.values())].sort()
  for (const name of names) {
    // A shard must be a file beside the index: a path would let a checkpoint read other files.
    if (name !== basename(name)) {
      throw new StartupError('broken_checkpoint', `${join(folder, INDEX)}: ${name} is not a file name`)
    }
  }
  const files = names.map((name) => resolve(folder, name))
  const stored = files.flatMap((path, file) =>
    readSafetensors(path)
      .filter((tensor) => map.get(tensor.name) === names[file])
      .map((tensor) => ({ ...tensor, file })),
  )
  return { files, stored }
}
