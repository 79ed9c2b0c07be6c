// Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, version 3.
import { closeSync, openSync, writeSync } from 'node:fs'

const MAGIC = 'GGUF'
const VERSION = 3
export const ALIGNMENT = 32
const VALUE = { u32: 4, i32: 5, f32: 6, bool: 7, string: 8, array: 9 } as const
export const TENSOR = { F32: 0, BF16: 30 } as const

/** A typed metadata value; `strings`, `f32s` and `i32s` are arrays. */
export type GgufValue =
  | { u32: number }
  | { f32: number }
  | { bool: boolean }
  | { string: string }
  | { strings: readonly string[] }
  | { f32s: readonly number[] }
  | { i32s: readonly number[] }

export interface GgufTensor {
  name: string
  /** Outermost dimension first; the file stores the innermost first. */
  shape: readonly number[]
  type: keyof typeof TENSOR
  /** Reads the tensor's bytes; called when they are written. */
  data: () => Uint8Array
}

export function writeGguf(
  path: string,
  metadata: Record<string, GgufValue>,
  tensors: readonly GgufTensor[],
): void {
  const file = openSync(path, 'w')
  let written = 0
  const put = (bytes: Uint8Array) => {
    for (let from = 0; from < bytes.length; ) from += writeSync(file, bytes, from)
    written += bytes.length
  }
  const pad = () => put(new Uint8Array(aligned(written) - written))
  try {
    put(ggufHeader(metadata, tensors))
    pad()
    for (const tensor of tensors) {
      const data = tensor.data()
      if (data.length !== byteLength(tensor)) throw new Error(`${tensor.name}: ${data.length} bytes`)
      put(data)
      pad()
    }
  } finally {
    closeSync(file)
  }
}

/** Everything before the tensors' bytes, without padding. */
export function ggufHeader(metadata: Record<string, GgufValue>, tensors: readonly GgufTensor[]): Buffer {
  const entries = Object.entries(metadata)
  const parts = [Buffer.from(MAGIC), u32(VERSION), u64(tensors.length), u64(entries.length)]
  for (const [key, value] of entries) parts.push(string(key), typedValue(value))
  let offset = 0
  for (const tensor of tensors) {
    const { name, shape, type } = tensor
    parts.push(
      string(name),
      u32(shape.length),
      ...shape.toReversed().map(u64),
      u32(TENSOR[type]),
      u64(offset),
    )
    offset = aligned(offset + byteLength(tensor))
  }
  return Buffer.concat(parts)
}

function byteLength({ shape, type }: GgufTensor): number {
  return shape.reduce((a, b) => a * b, type === 'F32' ? 4 : 2)
}

function aligned(bytes: number): number {
  return Math.ceil(bytes / ALIGNMENT) * ALIGNMENT
}

function typedValue(value: GgufValue): Buffer {
  if ('u32' in value) return Buffer.concat([u32(VALUE.u32), u32(value.u32)])
  if ('f32' in value) return Buffer.concat([u32(VALUE.f32), f32(value.f32)])
  if ('bool' in value) return Buffer.concat([u32(VALUE.bool), Buffer.of(Number(value.bool))])
  if ('string' in value) return Buffer.concat([u32(VALUE.string), string(value.string)])
  if ('strings' in value) return array(VALUE.string, value.strings.map(string))
  if ('f32s' in value) return array(VALUE.f32, value.f32s.map(f32))
  return array(VALUE.i32, value.i32s.map(u32))
}

function array(type: number, items: readonly Buffer[]): Buffer {
  return Buffer.concat([u32(VALUE.array), u32(type), u64(items.length), ...items])
}

function string(text: string): Buffer {
  const bytes = Buffer.from(text)
  return Buffer.concat([u64(bytes.length), bytes])
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeInt32LE(value | 0)
  return bytes
}

function u64(value: number): Buffer {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64LE(BigInt(value))
  return bytes
}

function f32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeFloatLE(value)
  return bytes
}
