/**
 * An independent GGUF reader, written from the specification, so that the writer is not tested against its own
 * code.
 */
export interface Gguf {
  version: number
  metadata: Map<string, unknown>
  tensors: { name: string; dimensions: number[]; type: number; offset: number }[]
  /** Offset of the tensors' bytes, after padding. */
  dataStart: number
}

export function parseGguf(bytes: Buffer, alignment = 32): Gguf {
  let at = 0
  const take = (length: number) => {
    at += length
    return at - length
  }
  const u32 = () => bytes.readUInt32LE(take(4))
  const u64 = () => Number(bytes.readBigUInt64LE(take(8)))
  const text = () => {
    const length = u64()
    return bytes.toString('utf8', take(length), at)
  }
  const value = (type: number): unknown => {
    if (type === 4) return u32()
    if (type === 5) return bytes.readInt32LE(take(4))
    if (type === 6) return bytes.readFloatLE(take(4))
    if (type === 8) return text()
    if (type !== 9) throw new Error(`value type ${type}`)
    const inner = u32()
    return Array.from({ length: u64() }, () => value(inner))
  }
  if (bytes.toString('latin1', take(4), at) !== 'GGUF') throw new Error('no GGUF file')
  const version = u32()
  const tensorCount = u64()
  const metadata = new Map<string, unknown>()
  for (let left = u64(); left > 0; left--) metadata.set(text(), value(u32()))
  const tensors = Array.from({ length: tensorCount }, () => ({
    name: text(),
    dimensions: Array.from({ length: u32() }, u64),
    type: u32(),
    offset: u64(),
  }))
  return { version, metadata, tensors, dataStart: Math.ceil(at / alignment) * alignment }
}
