import type { StartupError } from '../../startup-error.ts'
import { broken } from '../refusals.ts'

/** Names of tensors, of classes, of devices. */
const MAX_STRING_BYTES = 1024
/** An integer of so many bytes is exact in a number, and larger than any size of a tensor. */
const MAX_INTEGER_BYTES = 6

/** Reads the arguments of a pickle's opcodes one after the other. Whatever is not there is a StartupError. */
export class PickleBytes {
  readonly #where: string
  readonly #bytes: Buffer
  #at = 0

  constructor(where: string, bytes: Buffer) {
    this.#where = where
    this.#bytes = bytes
  }

  /** Place of the next byte. */
  get at(): number {
    return this.#at
  }

  u8 = (): number => this.#bytes.readUInt8(this.skip(1))
  u16 = (): number => this.#bytes.readUInt16LE(this.skip(2))
  u32 = (): number => this.#bytes.readUInt32LE(this.skip(4))
  i32 = (): number => this.#bytes.readInt32LE(this.skip(4))
  f64 = (): number => this.#bytes.readDoubleBE(this.skip(8))

  /** An integer with its number of bytes before it. */
  integer(): number {
    const count = this.u8()
    const from = this.skip(count)
    if (count > MAX_INTEGER_BYTES) throw this.broken(`the pickle has a number of ${count} bytes`)
    return count === 0 ? 0 : this.#bytes.readIntLE(from, count)
  }

  text(count: number): string {
    if (count > MAX_STRING_BYTES) throw this.broken(`the pickle has a string of ${count} bytes`)
    const from = this.skip(count)
    return this.#bytes.toString('utf8', from, from + count)
  }

  line(): string {
    const end = this.#bytes.indexOf(0x0a, this.#at)
    if (end === -1) throw this.broken('the pickle is cut off')
    const text = this.text(end - this.#at)
    this.#at++
    return text
  }

  /** Returns where the `count` bytes begin. */
  skip(count: number): number {
    if (count > this.#bytes.length - this.#at) throw this.broken('the pickle is cut off')
    this.#at += count
    return this.#at - count
  }

  broken(reason: string): StartupError {
    return broken(`${this.#where}: ${reason}`)
  }
}
