import { existsSync } from 'node:fs'
import { basename, join, resolve } from 'node:path'
import { z } from 'zod'
import type { StartupError } from '../startup-error.ts'
import type { LocatedTensor } from './plain-tensor.ts'
import { readJson } from './read-json.ts'
import { broken, unsupported } from './refusals.ts'
import { listFolder } from './regular-file.ts'
import { readSafetensors, type StoredTensor } from './safetensors.ts'
import { readTorchFile } from './torch/torch-file.ts'

interface WeightFormat {
  /** One file with all weights. */
  readonly single: string
  /** Or an index, which names the file of each tensor. */
  readonly index: string
  readonly read: (path: string) => StoredTensor[]
}

/** The first that a folder has is served, as transformers does it. */
const FORMATS: readonly WeightFormat[] = [
  { single: 'model.safetensors', index: 'model.safetensors.index.json', read: readSafetensors },
  { single: 'pytorch_model.bin', index: 'pytorch_model.bin.index.json', read: readTorchFile },
]
/** Files at the top of a folder with which {@link readWeightFiles} finds its weights. */
export const WEIGHT_FILES: readonly string[] = FORMATS.flatMap(({ single, index }) => [single, index])
/** Other files of weights, for the message of a folder that has only these. */
const OTHER_WEIGHTS: readonly { readonly name: RegExp; readonly advice: string }[] = [
  { name: /\.gguf$/, advice: 'give the path of the file itself' },
  {
    name: /^consolidated\..*\.(pth|safetensors)$/,
    advice: 'tensors under names of its own: convert it to Hugging Face',
  },
  { name: /\.(h5|msgpack|ot|onnx|npz)$/, advice: 'a format that is not read: convert it to safetensors' },
]

const IndexFile = z.looseObject({ weight_map: z.record(z.string(), z.string()) })

/** What the files of a checkpoint say that they hold. */
export interface StoredWeights {
  /** Absolute paths. */
  files: string[]
  tensors: LocatedTensor[]
}

/** Reads the tables of tensors of a folder's weights, in whichever format. @throws StartupError that names the file. */
export function readWeightFiles(folder: string): StoredWeights {
  for (const format of FORMATS) {
    if (existsSync(join(folder, format.single))) return readSingle(folder, format)
    if (existsSync(join(folder, format.index))) return readSharded(folder, format)
  }
  throw noWeights(folder)
}

function noWeights(folder: string): StartupError {
  for (const { name, advice } of OTHER_WEIGHTS) {
    const found = listFolder(folder).find((file) => name.test(file))
    if (found) return unsupported(`${join(folder, found)}: ${advice}`)
  }
  return broken(`${folder} has no weights: none of ${WEIGHT_FILES.join(', ')}`)
}

function readSingle(folder: string, { single, read }: WeightFormat): StoredWeights {
  const path = resolve(folder, single)
  return { files: [path], tensors: read(path).map((tensor) => ({ ...tensor, file: 0 })) }
}

function readSharded(folder: string, { index, read }: WeightFormat): StoredWeights {
  const map = new Map(Object.entries(readJson(IndexFile, folder, index).weight_map))
  const names = [...new Set(map.values())].sort()
  if (names.length === 0) throw broken(`${join(folder, index)}: weight_map is empty`)
  for (const name of names) {
    // A shard must be a file beside the index: a path would let a checkpoint read other files.
    if (name !== basename(name) || name.includes('\0')) {
      throw broken(`${join(folder, index)}: ${JSON.stringify(name)} is not a file name`)
    }
  }
  const files = names.map((name) => resolve(folder, name))
  const tensors = files.flatMap((path, file) =>
    read(path)
      .filter((tensor) => map.get(tensor.name) === names[file])
      .map((tensor) => ({ ...tensor, file })),
  )
  return { files, tensors }
}
