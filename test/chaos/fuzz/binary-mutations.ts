/** Numbers at which sizes and offsets go wrong. */
const NUMBERS = [
  ...[0n, 1n, 2n, 7n, 0x7fn, 0x80n, 0xffn, 0x7fffn, 0xffffn, 0x7fffffffn, 0x80000000n, 0xffffffffn],
  ...[2n ** 53n, 2n ** 53n + 1n, 2n ** 60n, 2n ** 63n - 1n, 2n ** 63n, 2n ** 64n - 1n, 2n ** 64n - 64n],
] as const

/** A copy of the bytes with one edit, or up to four. `random` gives numbers in [0, 1). */
export function mutatedBytes(sample: Buffer, random: () => number): Buffer {
  let bytes: Buffer = Buffer.from(sample)
  // One edit alone reaches the furthest into a parser.
  const edits = random() < 0.5 ? 1 : 2 + Math.floor(3 * random())
  for (let edit = 0; edit < edits; edit++) bytes = edited(bytes, random)
  return bytes
}

function edited(bytes: Buffer, random: () => number): Buffer {
  const below = (limit: number) => Math.floor(limit * random())
  const at = below(bytes.length)
  const length = Math.min(1 + below(random() < 0.8 ? 16 : 512), bytes.length - at)
  const part = bytes.subarray(at, at + length)
  const splice = (...inserted: Buffer[]) =>
    Buffer.concat([bytes.subarray(0, at), ...inserted, bytes.subarray(at + length)])
  if (bytes.length === 0) return Buffer.from([below(256)])
  switch (below(8)) {
    case 0:
      bytes[at] = below(256)
      return bytes
    case 1:
      bytes[at] = (bytes[at] ?? 0) ^ (1 << below(8))
      return bytes
    case 2:
      return overwritten(bytes, at, NUMBERS[below(NUMBERS.length)] ?? 0n, 1 << below(4))
    case 3:
      return overwritten(bytes, at, BigInt(below(2 * bytes.length)), 1 << below(4))
    case 4:
      return splice()
    case 5:
      return splice(part, part)
    case 6: {
      // A part of the same bytes at another place.
      const from = below(bytes.length)
      return splice(Buffer.from(bytes.subarray(from, from + length)))
    }
    default:
      return random() < 0.1 ? bytes.subarray(0, at) : splice(Buffer.from([below(256)]), part)
  }
}

function overwritten(bytes: Buffer, at: number, value: bigint, width: number): Buffer {
  for (let place = 0; place < width && at + place < bytes.length; place++)
    bytes[at + place] = Number((value >> BigInt(8 * place)) & 0xffn)
  return bytes
}
