import { createReadStream } from 'node:fs'
import { open } from 'node:fs/promises'
import { createGunzip } from 'node:zlib'
import { AparError } from '../../../shared/errors.ts'
import { zstdDecompressed } from './zstd.ts'

const GZIP = Buffer.from([0x1f, 0x8b])
const ZSTD = Buffer.from([0x28, 0xb5, 0x2f, 0xfd])
/** Of UTF-16, which nothing here reads. */
const OTHER_BOMS: readonly [string, Buffer][] = [
  ['UTF-16', Buffer.from([0xff, 0xfe])],
  ['UTF-16', Buffer.from([0xfe, 0xff])],
]
const BOM = Buffer.from([0xef, 0xbb, 0xbf])
/** Bytes read from disk at a time. */
const READ_BYTES = 1 << 18

/**
 * The bytes of a file, in chunks; gzip and zstd are known by their first bytes and decompressed as they are read. A byte
 * order mark of UTF-8 is left out, and `onBom` hears of it. `file`: name of the file in messages.
 * @throws AparError `invalid_request` that names the file.
 */
export async function* fileBytes(path: string, file: string, onBom: () => void): AsyncGenerator<Buffer> {
  try {
    let first = true
    for await (const chunk of decompressed(path, file)) {
      const bytes = first ? withoutBom(chunk, file, onBom) : chunk
      if (chunk.length > 0) first = false
      if (bytes.length > 0) yield bytes
    }
  } catch (cause) {
    if (cause instanceof AparError) throw cause
    if (isFolder(cause))
      throw new AparError('invalid_request', `${file} is a folder: name the files in it`, { cause })
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new AparError('invalid_request', `${file}: cannot be read: ${reason}`, { cause })
  }
}

function isFolder(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'EISDIR'
}

async function* decompressed(path: string, file: string): AsyncGenerator<Buffer> {
  const head = await firstBytes(path)
  const raw = createReadStream(path, { highWaterMark: READ_BYTES })
  if (head.subarray(0, GZIP.length).equals(GZIP)) {
    const plain = createGunzip({ chunkSize: READ_BYTES })
    raw.on('error', (error) => plain.destroy(error))
    yield* raw.pipe(plain)
  } else if (head.equals(ZSTD)) {
    yield* zstdDecompressed(raw, file)
  } else yield* raw
}

async function firstBytes(path: string): Promise<Buffer> {
  const handle = await open(path)
  try {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(ZSTD.length), 0, ZSTD.length, 0)
    return buffer.subarray(0, bytesRead)
  } finally {
    await handle.close()
  }
}

function withoutBom(chunk: Buffer, file: string, onBom: () => void): Buffer {
  for (const [name, mark] of OTHER_BOMS) {
    if (chunk.subarray(0, mark.length).equals(mark))
      throw new AparError(
        'invalid_request',
        `${file}: begins with the byte order mark of ${name}: only UTF-8 is read`,
      )
  }
  if (!chunk.subarray(0, BOM.length).equals(BOM)) return chunk
  onBom()
  return chunk.subarray(BOM.length)
}
