import { z } from 'zod'
import { AparError } from '../../shared/errors.ts'
import { parseJson } from '../../shared/parse.ts'
import { broken } from './refusals.ts'
import { type RegularFile, withRegularFile } from './regular-file.ts'

// Format: https://github.com/huggingface/safetensors#format - u64 header length, JSON header, tensor bytes.

/** The limit of the reference implementation; it also bounds the memory that a hostile file can make us allocate. */
const MAX_HEADER_BYTES = 100_000_000
const LENGTH_BYTES = 8

/** By the format's names of element types. */
export const BYTES_PER_ELEMENT: Record<string, number> = {
  F64: 8,
  F32: 4,
  F16: 2,
  BF16: 2,
  I64: 8,
  I32: 4,
  I16: 2,
  I8: 1,
  U64: 8,
  U32: 4,
  U16: 2,
  U8: 1,
  BOOL: 1,
  F8_E4M3: 1,
  F8_E5M2: 1,
}

const size = z.int().min(0)
const HeaderEntry = z.object({
  dtype: z.string(),
  shape: z.array(size).max(8),
  data_offsets: z.tuple([size, size]),
})
const Header = z.record(z.string(), z.unknown())

/** A tensor as described by its file; `offset` in bytes from the start of the file. */
export interface StoredTensor {
  name: string
  offset: number
  dtype: string
  shape: number[]
}

/**
 * Reads the tensor table of one .safetensors file, but no tensor data.
 * @throws StartupError `broken_checkpoint` when the header contradicts itself or the file's length.
 */
export function readSafetensors(path: string): StoredTensor[] {
  const { text, dataStart, dataBytes } = readHeader(path)
  const header = parseAs(Header, text, path)
  const spans: { name: string; begin: number; end: number }[] = []
  const tensors: StoredTensor[] = []
  for (const [name, value] of Object.entries(header)) {
    if (name === '__metadata__') continue
    const entry = parseAs(HeaderEntry, JSON.stringify(value), `${path}: ${name}`)
    const [begin, end] = entry.data_offsets
    const bytes = BYTES_PER_ELEMENT[entry.dtype]
    if (bytes === undefined) throw broken(`${path}: ${name}: unknown dtype ${entry.dtype}`)
    const expected = entry.shape.reduce((product, length) => product * length, bytes)
    if (end < begin || end > dataBytes) {
      throw broken(`${path}: ${name}: bytes ${begin} to ${end} are outside the file's ${dataBytes}`)
    }
    if (end - begin !== expected) {
      const shape = `${entry.dtype} [${entry.shape.join(', ')}]`
      throw broken(`${path}: ${name}: ${shape} takes ${expected} bytes, data_offsets give ${end - begin}`)
    }
    spans.push({ name, begin, end })
    tensors.push({ name, offset: dataStart + begin, dtype: entry.dtype, shape: entry.shape })
  }
  refuseOverlaps(path, spans)
  return tensors
}

interface FileHeader {
  text: string
  dataStart: number
  dataBytes: number
}

function readHeader(path: string): FileHeader {
  const header = withRegularFile(path, (file) => parseHeader(path, file))
  if (!header) throw broken(`${path} is missing`)
  return header
}

function parseHeader(path: string, file: RegularFile): FileHeader {
  const prefix = new Uint8Array(LENGTH_BYTES)
  if (file.read(prefix) !== LENGTH_BYTES) throw broken(`${path}: too short for a safetensors header`)
  const headerBytes = Number(new DataView(prefix.buffer).getBigUint64(0, true))
  const room = file.bytes - LENGTH_BYTES
  if (headerBytes < 2 || headerBytes > MAX_HEADER_BYTES || headerBytes > room) {
    throw broken(`${path}: header length ${headerBytes} does not fit a file of ${file.bytes} bytes`)
  }
  const header = new Uint8Array(headerBytes)
  if (file.read(header) !== headerBytes) throw broken(`${path}: the header is cut off`)
  const dataStart = LENGTH_BYTES + headerBytes
  return { text: new TextDecoder().decode(header), dataStart, dataBytes: file.bytes - dataStart }
}

function refuseOverlaps(path: string, spans: { name: string; begin: number; end: number }[]): void {
  spans.sort((a, b) => a.begin - b.begin || a.end - b.end)
  let last = { name: '', begin: 0, end: 0 }
  for (const span of spans) {
    if (span.begin < last.end) throw broken(`${path}: ${span.name} overlaps ${last.name}`)
    last = span
  }
}

function parseAs<T>(schema: z.ZodType<T>, text: string, where: string): T {
  try {
    return parseJson(schema, text)
  } catch (error) {
    if (!(error instanceof AparError)) throw error
    const reason = error.code === 'invalid_json' ? 'the header is not valid JSON' : error.message
    throw broken(where, reason)
  }
}
