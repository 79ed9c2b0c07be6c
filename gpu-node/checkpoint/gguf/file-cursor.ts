import type { StartupError } from '../../startup-error.ts'
import { broken } from '../refusals.ts'
import type { RegularFile } from '../regular-file.ts'

const CHUNK_BYTES = 1 << 20

/** Reads a binary little-endian file from its start, in chunks. Reading past its end is a StartupError. */
export class FileCursor {
  readonly path: string
  readonly #file: RegularFile
  #chunk = Buffer.alloc(0)
  /** Of the chunk, in the file. */
  #chunkStart = 0
  #at = 0

  constructor(path: string, file: RegularFile) {
    this.path = path
    this.#file = file
  }

  get fileBytes(): number {
    return this.#file.bytes
  }

  /** Offset of the next byte. */
  get at(): number {
    return this.#at
  }

  get left(): number {
    return this.fileBytes - this.#at
  }

  u8 = (): number => this.bytes(1).readUInt8()
  i8 = (): number => this.bytes(1).readInt8()
  u16 = (): number => this.bytes(2).readUInt16LE()
  i16 = (): number => this.bytes(2).readInt16LE()
  u32 = (): number => this.bytes(4).readUInt32LE()
  i32 = (): number => this.bytes(4).readInt32LE()
  f32 = (): number => this.bytes(4).readFloatLE()
  f64 = (): number => this.bytes(8).readDoubleLE()
  /** Exact up to 2^53; larger values are rounded, and larger than any file. */
  u64 = (): number => {
    const at = this.#take(8)
    // Without BigInt, because a vocabulary has a hundred thousand lengths of strings.
    return this.#chunk.readUInt32LE(at) + this.#chunk.readUInt32LE(at + 4) * 2 ** 32
  }
  i64 = (): number => Number(this.bytes(8).readBigInt64LE())

  /** The next `count` bytes, valid until the next call. */
  bytes(count: number): Buffer {
    const start = this.#take(count)
    return this.#chunk.subarray(start, start + count)
  }

  /** The next `count` bytes as UTF-8. */
  text(count: number): string {
    const start = this.#take(count)
    return this.#chunk.toString('utf8', start, start + count)
  }

  broken(reason: string): StartupError {
    return broken(`${this.path}: ${reason}`)
  }

  /** Where the next `count` bytes begin in the chunk. */
  #take(count: number): number {
    if (count > this.left) throw this.broken(`ends within ${count} bytes at ${this.#at}`)
    if (this.#at - this.#chunkStart + count > this.#chunk.length) this.#fill(count)
    const start = this.#at - this.#chunkStart
    this.#at += count
    return start
  }

  #fill(count: number): void {
    const kept = this.#chunk.subarray(this.#at - this.#chunkStart)
    const unread = this.left - kept.length
    const fresh = Buffer.allocUnsafe(Math.min(unread, Math.max(count - kept.length, CHUNK_BYTES)))
    if (this.#file.read(fresh) < fresh.length) throw this.broken('became shorter while it was read')
    this.#chunk = Buffer.concat([kept, fresh])
    this.#chunkStart = this.#at
  }
}
