// Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3 (little-endian).

import type { TensorEntry } from '../../engine/engine-config.ts'
import { broken, unsupported } from '../refusals.ts'
import { withRegularFile } from '../regular-file.ts'
import { TENSOR_BLOCKS, tensorBytes } from '../tensor-blocks.ts'
import { FileCursor } from './file-cursor.ts'
import { TENSOR_TYPES } from './tensor-types.ts'

/** A metadata value. Integers beyond 2^53 are rounded. */
export type GgufValue = number | boolean | string | readonly GgufValue[]

export interface GgufTensor {
  readonly name: string
  readonly dtype: TensorEntry['dtype']
  /** Outermost dimension first, as in safetensors; the file has the innermost first. */
  readonly shape: readonly number[]
  /** Of its first byte in the file. */
  readonly offset: number
}

export interface GgufFile {
  readonly path: string
  readonly metadata: ReadonlyMap<string, GgufValue>
  readonly tensors: readonly GgufTensor[]
}

const MAGIC = 'GGUF'
const MAX_STRING_BYTES = 16 << 20
const MAX_DIMENSIONS = 4
/** Fewest bytes of a metadata entry and of a tensor's entry: bounds on their numbers. */
const MIN_ENTRY_BYTES = 13
const MIN_TENSOR_BYTES = 32
/** Far more than any vocabulary: other arrays would only fill the memory. */
const MAX_ARRAY_VALUES = 4 << 20
const DEFAULT_ALIGNMENT = 32
const MAX_ALIGNMENT = 1 << 20

/** Reads everything but the weights. @throws StartupError that names the file and what is wrong with it. */
export function readGguf(path: string): GgufFile {
  const file = withRegularFile(path, (regular) => read(new FileCursor(path, regular)))
  if (!file) throw broken(`${path} is missing`)
  return file
}

/** The values of a small f32 tensor. @throws StartupError when it has another type or other than `count` values. */
export function readF32(
  { path }: GgufFile,
  { name, dtype, shape, offset }: GgufTensor,
  count: number,
): number[] {
  const is = `${dtype} [${shape.join(', ')}]`
  const where = `${path}: ${name}`
  if (dtype !== 'F32' || shape.length !== 1 || shape[0] !== count)
    throw broken(`${where}: is ${is}, not F32 [${count}]`)
  const bytes = Buffer.alloc(4 * count)
  const read = withRegularFile(path, (regular) => regular.readAt(bytes, offset))
  if (read !== bytes.length) throw broken(`${where}: became shorter while it was read`)
  return Array.from({ length: count }, (_, index) => bytes.readFloatLE(4 * index))
}

function read(cursor: FileCursor): GgufFile {
  const { path } = cursor
  if (cursor.left < 24 || cursor.bytes(4).toString('latin1') !== MAGIC)
    throw cursor.broken('is not a GGUF file')
  const version = cursor.u32()
  if (version !== 2 && version !== 3)
    throw unsupported(`${path}: GGUF version ${version} is not read (2 and 3 are)`)
  const tensorCount = bounded(cursor, cursor.u64(), MIN_TENSOR_BYTES, 'tensors')
  const entryCount = bounded(cursor, cursor.u64(), MIN_ENTRY_BYTES, 'metadata entries')
  const metadata = new Map<string, GgufValue>()
  for (let entry = 0; entry < entryCount; entry++) {
    const key = text(cursor)
    if (metadata.has(key)) throw cursor.broken(`metadata has ${JSON.stringify(key)} twice`)
    metadata.set(key, value(cursor, key))
  }
  const alignment = alignmentOf(cursor, metadata)
  const entries = Array.from({ length: tensorCount }, () => tensorEntry(cursor))
  const dataStart = Math.ceil(cursor.at / alignment) * alignment
  const tensors = entries.map((tensor) => ({ ...tensor, offset: dataStart + tensor.offset }))
  checkTensors(cursor, tensors, alignment)
  return { path, metadata, tensors }
}

function tensorEntry(cursor: FileCursor): GgufTensor {
  const name = text(cursor)
  const dimensions = cursor.u32()
  if (dimensions < 1 || dimensions > MAX_DIMENSIONS) throw cursor.broken(`${name}: ${dimensions} dimensions`)
  const shape = Array.from({ length: dimensions }, cursor.u64).reverse()
  const number = cursor.u32()
  const dtype = TENSOR_TYPES.get(number)
  if (!dtype) throw unsupported(`${cursor.path}: ${name}: tensor type ${number} is not read`)
  return { name, dtype, shape, offset: cursor.u64() }
}

function checkTensors(cursor: FileCursor, tensors: readonly GgufTensor[], alignment: number): void {
  const names = new Set<string>()
  let end = 0
  let before = ''
  for (const { name, dtype, shape, offset } of [...tensors].sort((a, b) => a.offset - b.offset)) {
    if (names.has(name)) throw cursor.broken(`${name}: stored twice`)
    names.add(name)
    if (shape.some((size) => size < 1)) throw cursor.broken(`${name}: shape [${shape.join(', ')}]`)
    const inner = shape.at(-1) ?? 0
    if (inner % TENSOR_BLOCKS[dtype].elements !== 0)
      throw cursor.broken(`${name}: rows of ${inner} are no whole blocks of ${dtype}`)
    const bytes = tensorBytes(dtype, shape)
    if (offset % alignment !== 0) throw cursor.broken(`${name}: offset is not aligned to ${alignment}`)
    if (!(offset + bytes <= cursor.fileBytes))
      throw cursor.broken(`${name}: ends past the end of the file (${cursor.fileBytes} bytes)`)
    if (offset < end) throw cursor.broken(`${name} overlaps ${before}`)
    end = offset + bytes
    before = name
  }
}

function alignmentOf(cursor: FileCursor, metadata: ReadonlyMap<string, GgufValue>): number {
  const alignment = metadata.get('general.alignment') ?? DEFAULT_ALIGNMENT
  const good = typeof alignment === 'number' && Number.isInteger(alignment / 8) && alignment > 0
  if (!good || alignment > MAX_ALIGNMENT) throw cursor.broken('general.alignment: must be a multiple of 8')
  return alignment
}

function text(cursor: FileCursor): string {
  const bytes = cursor.u64()
  if (bytes > MAX_STRING_BYTES) throw cursor.broken(`a string of ${bytes} bytes at ${cursor.at}`)
  return cursor.text(bytes)
}

/** `count` as the file gives it, checked against what the rest of the file can hold. */
function bounded(cursor: FileCursor, count: number, minBytes: number, what: string): number {
  if (count > cursor.left / minBytes) throw cursor.broken(`has no room for ${count} ${what}`)
  return count
}

const ARRAY = 9

function value(cursor: FileCursor, key: string): GgufValue {
  const type = cursor.u32()
  if (type !== ARRAY) return scalar(cursor, type, key)
  const inner = cursor.u32()
  // The format allows arrays of arrays; no field of a model has one.
  if (inner === ARRAY) throw cursor.broken(`${key}: an array of arrays`)
  const count = bounded(cursor, cursor.u64(), SCALARS[inner]?.bytes ?? 1, `values of ${key}`)
  if (count > MAX_ARRAY_VALUES) throw cursor.broken(`${key}: an array of ${count} values`)
  const values: GgufValue[] = []
  for (let index = 0; index < count; index++) values.push(scalar(cursor, inner, key))
  return values
}

interface Scalar {
  readonly bytes: number
  readonly read: (cursor: FileCursor) => GgufValue
}

/** Index: the value type's number. */
const SCALARS: readonly (Scalar | undefined)[] = [
  { bytes: 1, read: (cursor) => cursor.u8() },
  { bytes: 1, read: (cursor) => cursor.i8() },
  { bytes: 2, read: (cursor) => cursor.u16() },
  { bytes: 2, read: (cursor) => cursor.i16() },
  { bytes: 4, read: (cursor) => cursor.u32() },
  { bytes: 4, read: (cursor) => cursor.i32() },
  { bytes: 4, read: (cursor) => cursor.f32() },
  { bytes: 1, read: (cursor) => cursor.u8() !== 0 },
  { bytes: 8, read: text },
  undefined,
  { bytes: 8, read: (cursor) => cursor.u64() },
  { bytes: 8, read: (cursor) => cursor.i64() },
  { bytes: 8, read: (cursor) => cursor.f64() },
]

function scalar(cursor: FileCursor, type: number, key: string): GgufValue {
  const known = SCALARS[type]
  if (!known) throw cursor.broken(`${key}: value type ${type}`)
  return known.read(cursor)
}
