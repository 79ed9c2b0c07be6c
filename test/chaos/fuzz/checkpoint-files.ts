import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { ggufHeader } from '../../../bench/peer/gguf.ts'
import { ggufName } from '../../../bench/peer/llama-gguf.ts'
import { readCheckpoint } from '../../../gpu-node/checkpoint/checkpoint.ts'
import { llamaTensors } from '../../../gpu-node/checkpoint/llama-tensors.ts'
import { PLAIN_LLAMA, plainRope } from '../../../gpu-node/checkpoint/plain-llama.ts'
import {
  BYTES_PER_ELEMENT,
  readSafetensors,
  type StoredTensor,
} from '../../../gpu-node/checkpoint/safetensors.ts'
import { tensorBytes } from '../../../gpu-node/checkpoint/tensor-blocks.ts'
import { readTorchFile } from '../../../gpu-node/checkpoint/torch/torch-file.ts'
import type { ModelShape, TensorEntry } from '../../../gpu-node/engine/engine-config.ts'
import { packageRoot } from '../../../gpu-node/package-root.ts'
import { headerOf, safetensors, tinyTensors } from '../../support/tiny-checkpoint.ts'
import { dict, floats, pickle, tensor, text, torchMembers, zipFile } from '../../support/torch-file.ts'
import { seeded } from '../scenario.ts'
import { mutatedBytes } from './binary-mutations.ts'
import { mutated } from './mutations.ts'

/** Bytes of a tensor in its file. */
export type Span = readonly [begin: number, end: number]

export interface CheckpointFile {
  /** What reads it. */
  readonly name: string
  /** Its path in a folder of its own. */
  readonly file: string
  /** The other files of the folder, which are not mutated: a refusal may name them. None for a file that is read alone. */
  readonly others?: Readonly<Record<string, Buffer>>
  readonly valid: Buffer
  /** Almost the same file, another one for each seed. */
  readonly mutated: (seed: number) => Buffer
  /** Reads the file; returns where its tensors lie. */
  readonly read: (path: string) => Span[]
}

/** A file of which a part is mutated and put in its place by `wrap`. */
function binary(
  name: string,
  file: string,
  part: Buffer,
  wrap: (part: Buffer) => Buffer,
  read: CheckpointFile['read'],
): CheckpointFile {
  const mutated = (seed: number) => wrap(mutatedBytes(part, seeded(seed)))
  return { name, file, valid: wrap(part), mutated, read }
}

const GOLDEN = join(packageRoot, 'test/golden/torch')

/** One entry for each parser of files that are read alone. */
export function checkpointFiles(): CheckpointFile[] {
  return [safetensorsFile(), safetensorsHeader(), gguf(), torchZip(), torchDirectory(), ...torchPickles()]
}

const storedSpans = (tensors: readonly StoredTensor[]): Span[] =>
  tensors.map(({ offset, dtype, shape }) => {
    return [offset, offset + shape.reduce((a, b) => a * b, BYTES_PER_ELEMENT[dtype] ?? Number.NaN)]
  })
const entrySpans = (tensors: readonly TensorEntry[]): Span[] =>
  tensors.map(({ offset, dtype, shape }) => [offset, offset + tensorBytes(dtype, shape)])

function safetensorsFile(): CheckpointFile {
  const whole = safetensors(headerOf(tinyTensors()))
  const data = 8 + Number(whole.readBigUInt64LE())
  const wrap = (header: Buffer) => Buffer.concat([header, whole.subarray(data)])
  const read = (path: string) => storedSpans(readSafetensors(path))
  return binary('safetensors file', 'model.safetensors', whole.subarray(0, data), wrap, read)
}

/** Edits of the JSON tree: the length before the header is always right. */
function safetensorsHeader(): CheckpointFile {
  const file = safetensorsFile()
  const data = file.valid.subarray(8 + Number(file.valid.readBigUInt64LE()))
  const headers = mutated([headerOf(tinyTensors())])
  const withHeader = (seed: number) => {
    const [json = ''] = fc.sample(headers, { numRuns: 1, seed })
    const length = Buffer.alloc(8)
    length.writeBigUInt64LE(BigInt(Buffer.byteLength(json)))
    return Buffer.concat([length, Buffer.from(json), data])
  }
  return { ...file, name: 'safetensors header', mutated: withHeader }
}

function gguf(): CheckpointFile {
  const tokens = ['<unk>', '<s>', '</s>', '▁', 'a', 'b', 'ab', '▁a']
  const shape: ModelShape = {
    vocabSize: tokens.length,
    hiddenSize: 8,
    intermediateSize: 8,
    numLayers: 1,
    numHeads: 2,
    numKvHeads: 1,
    headDim: 4,
    contextTokens: 64,
    rmsNormEps: 0.5,
    rope: plainRope(10_000, 4),
    ...PLAIN_LLAMA,
    tieWordEmbeddings: true,
  }
  const metadata = {
    'general.architecture': { string: 'llama' },
    'llama.context_length': { u32: shape.contextTokens },
    'llama.embedding_length': { u32: shape.hiddenSize },
    'llama.block_count': { u32: shape.numLayers },
    'llama.feed_forward_length': { u32: shape.intermediateSize },
    'llama.attention.head_count': { u32: shape.numHeads },
    'llama.attention.head_count_kv': { u32: shape.numKvHeads },
    'llama.attention.layer_norm_rms_epsilon': { f32: shape.rmsNormEps },
    'tokenizer.ggml.model': { string: 'llama' },
    'tokenizer.ggml.tokens': { strings: tokens },
    'tokenizer.ggml.scores': { f32s: tokens.map((_, id) => -id) },
    'tokenizer.ggml.token_type': { i32s: [2, 3, 3, 1, 1, 1, 1, 1] },
    'tokenizer.ggml.bos_token_id': { u32: 1 },
    'tokenizer.ggml.eos_token_id': { u32: 2 },
    'tokenizer.ggml.unknown_token_id': { u32: 0 },
  }
  const sizes = [...llamaTensors(shape).entries()]
  const bytes = (size: readonly number[]) => size.reduce((a, b) => a * b, 4)
  const tensors = sizes.map(([name, size]) => {
    return {
      name: ggufName(name),
      shape: size,
      type: 'F32' as const,
      data: () => new Uint8Array(bytes(size)),
    }
  })
  // Sizes are multiples of the alignment, except for the header's.
  const data = Buffer.alloc(32 + sizes.reduce((sum, [, size]) => sum + bytes(size), 0))
  const wrap = (header: Buffer) => Buffer.concat([header, data])
  const read = (path: string) => entrySpans(readCheckpoint(path).weights.tensors)
  return binary('GGUF file', 'model.gguf', ggufHeader(metadata, tensors), wrap, read)
}

const readTorch = (path: string) => storedSpans(readTorchFile(path))

function torchZip(): CheckpointFile {
  const whole = readFileSync(join(GOLDEN, 'apar-7b/medusa/medusa_lm_head.pt'))
  return binary('torch file', 'model.pt', whole, (mutatedFile) => mutatedFile, readTorch)
}

/** The directory of a zip file, with the records of large files, which always say where it lies. */
function torchDirectory(): CheckpointFile {
  const state = dict(text('a'), tensor(), text('b'), tensor({ key: '1' }))
  const whole = zipFile(torchMembers(pickle(state), { 0: floats(6), 1: floats(6) }), { zip64: true })
  const end = whole.length - 22 - 20 - 56
  const begin = Number(whole.readBigUInt64LE(end + 48))
  const wrap = (directory: Buffer) => {
    const records = Buffer.from(whole.subarray(end))
    records.writeBigUInt64LE(BigInt(directory.length), 40)
    records.writeBigUInt64LE(BigInt(begin + directory.length), 56 + 8)
    return Buffer.concat([whole.subarray(0, begin), directory, records])
  }
  return binary('zip directory of a torch file', 'model.pt', whole.subarray(begin, end), wrap, readTorch)
}

function torchPickles(): CheckpointFile[] {
  const ours = dict(
    ...[text('a'), tensor({ shape: [4, 8], elements: 64 })],
    ...[text('b'), tensor({ shape: [4, 8], elements: 64, offset: 32 })],
    ...[text('c'), tensor({ key: '1', storage: 'HalfStorage', shape: [128], elements: 128 })],
  )
  // Protocol 4, with parameters: cut out of the file, behind its header and before the next member.
  const single = readFileSync(join(GOLDEN, 'single/pytorch_model.bin'))
  const theirs = single.subarray(64, single.indexOf('PK\x07\x08', 64, 'latin1'))
  const storages = Object.fromEntries(Array.from({ length: 24 }, (_, key) => [key, floats(3000)]))
  const wrap = (data: Buffer) => zipFile(torchMembers(data, storages))
  return [
    binary('pickle, protocol 2', 'model.pt', pickle(ours), wrap, readTorch),
    binary('pickle, protocol 4', 'model.pt', theirs, wrap, readTorch),
  ]
}
