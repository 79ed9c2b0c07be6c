import { Decompress } from 'fzstd'
import { AparError } from '../../../shared/errors.ts'

// Frames and blocks as RFC 8878 has them. They are walked here so that each block is decompressed alone, which bounds
// the output (128 KiB a block), and so that a frame's window is checked before the decompressor allocates it.

const MAGIC = 0xfd2fb528
/** Frames with data for other programs: the last four bits are free. */
const SKIPPABLE_MAGIC = 0x184d2a50
/** What zstd itself decompresses unless it is told to use more. */
const MAX_WINDOW_BYTES = 128 << 20
const CONTENT_SIZE_BYTES = [0, 2, 4, 8]
const DICTIONARY_ID_BYTES = [0, 1, 2, 4]
const RLE_BLOCK = 1

/** @throws AparError that names the file, for what is no zstd or needs a larger window. */
export async function* zstdDecompressed(raw: AsyncIterable<Buffer>, file: string): AsyncGenerator<Buffer> {
  const fail = (why: string) => new AparError('invalid_request', `${file}: zstd: ${why}`)
  const source = new ByteReader(raw, () => fail('the file ends inside a frame'))
  let plain: Buffer[] = []
  const decompressor = new Decompress((bytes) => plain.push(Buffer.from(bytes)))
  const decompress = (bytes: Buffer): Buffer[] => {
    decompressor.push(bytes)
    const output = plain
    plain = []
    return output
  }
  while (!(await source.atEnd())) {
    const magic = await source.take(4)
    const number = magic.readUInt32LE()
    if ((number & 0xfffffff0) >>> 0 === SKIPPABLE_MAGIC) {
      await source.skip((await source.take(4)).readUInt32LE())
      continue
    }
    if (number !== MAGIC) throw fail('a frame does not begin with its magic number')
    const { header, windowBytes, hasChecksum } = await frameHeader(source)
    if (windowBytes > MAX_WINDOW_BYTES)
      throw fail(`a window of ${windowBytes} bytes: at most ${MAX_WINDOW_BYTES} are used (zstd --long)`)
    yield* decompress(Buffer.concat([magic, header]))
    for (let isLast = false; !isLast; ) {
      const block = await source.take(3)
      const fields = block.readUIntLE(0, 3)
      isLast = (fields & 1) === 1
      const bytes = ((fields >> 1) & 3) === RLE_BLOCK ? 1 : fields >> 3
      yield* decompress(Buffer.concat([block, await source.take(bytes)]))
    }
    if (hasChecksum) yield* decompress(await source.take(4))
  }
}

async function frameHeader(source: ByteReader) {
  const descriptor = await source.take(1)
  const flags = descriptor[0] ?? 0
  const singleSegment = (flags & 0x20) !== 0
  const window = await source.take(singleSegment ? 0 : 1)
  const dictionary = await source.take(DICTIONARY_ID_BYTES[flags & 3] ?? 0)
  const sizeFlag = flags >> 6
  const sizeBytes = sizeFlag === 0 && singleSegment ? 1 : (CONTENT_SIZE_BYTES[sizeFlag] ?? 0)
  const size = await source.take(sizeBytes)
  const header = Buffer.concat([descriptor, window, dictionary, size])
  const hasChecksum = (flags & 4) !== 0
  if (singleSegment) return { header, hasChecksum, windowBytes: contentSize(size) }
  const base = 2 ** (10 + ((window[0] ?? 0) >> 3))
  return { header, hasChecksum, windowBytes: base + (base / 8) * ((window[0] ?? 0) & 7) }
}

function contentSize(field: Buffer): number {
  if (field.length === 8) return Number(field.readBigUInt64LE())
  return field.readUIntLE(0, field.length) + (field.length === 2 ? 256 : 0)
}

/** Reads a stream by numbers of bytes. */
class ByteReader {
  readonly #chunks: AsyncIterator<Buffer>
  readonly #ended: () => Error
  #rest: Buffer = Buffer.alloc(0)

  constructor(raw: AsyncIterable<Buffer>, ended: () => Error) {
    this.#chunks = raw[Symbol.asyncIterator]()
    this.#ended = ended
  }

  async atEnd(): Promise<boolean> {
    while (this.#rest.length === 0) {
      const next = await this.#chunks.next()
      if (next.done) return true
      this.#rest = next.value
    }
    return false
  }

  async take(bytes: number): Promise<Buffer> {
    if (bytes === 0) return Buffer.alloc(0)
    const parts: Buffer[] = []
    for (let left = bytes; left > 0; ) {
      if (await this.atEnd()) throw this.#ended()
      const part = this.#rest.subarray(0, left)
      this.#rest = this.#rest.subarray(part.length)
      parts.push(part)
      left -= part.length
    }
    return parts.length === 1 && parts[0] ? parts[0] : Buffer.concat(parts)
  }

  async skip(bytes: number): Promise<void> {
    for (let left = bytes; left > 0; ) {
      if (await this.atEnd()) throw this.#ended()
      const skipped = Math.min(left, this.#rest.length)
      this.#rest = this.#rest.subarray(skipped)
      left -= skipped
    }
  }
}
