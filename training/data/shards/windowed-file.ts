import { type FileHandle, open } from 'node:fs/promises'
import { AparError } from '../../../shared/errors.ts'

const WINDOW_BYTES = 2 ** 18

/** A file of which parts are read: one after the other without a system call for each, or anywhere. */
export class WindowedFile {
  readonly path: string
  readonly #handle: FileHandle
  readonly #size: number
  #window: Buffer = Buffer.alloc(0)
  #start = 0

  private constructor(path: string, handle: FileHandle, size: number) {
    this.path = path
    this.#handle = handle
    this.#size = size
  }

  /** @throws AparError `invalid_request` that names the file when it cannot be opened or has another size. */
  static async open(path: string, size: number): Promise<WindowedFile> {
    const handle = await open(path).catch((error: Error) => {
      throw new AparError('invalid_request', `${path}: cannot be read: ${error.message}`)
    })
    const found = await handle.stat()
    if (found.isFile() && found.size === size) return new WindowedFile(path, handle, size)
    await handle.close()
    const what = found.isFile() ? `it has ${found.size} bytes` : 'it is not a file'
    throw new AparError('invalid_request', `${path}: ${what}, but by meta.json it has ${size} bytes`)
  }

  /**
   * The bytes from `offset` on, which are valid until the next call.
   * @throws AparError `invalid_request` when they are not all inside the file.
   */
  async read(offset: number, length: number): Promise<Uint8Array> {
    if (offset < 0 || offset + length > this.#size) {
      const reason = `bytes ${offset} to ${offset + length} are outside of its ${this.#size} bytes`
      throw new AparError('invalid_request', `${this.path}: ${reason}`)
    }
    const at = offset - this.#start
    if (at >= 0 && at + length <= this.#window.length) return this.#window.subarray(at, at + length)
    const wanted = Math.min(Math.max(length, WINDOW_BYTES), this.#size - offset)
    if (wanted > this.#window.buffer.byteLength) this.#window = Buffer.allocUnsafeSlow(wanted)
    const room = Buffer.from(this.#window.buffer, 0, wanted)
    let filled = 0
    while (filled < wanted) {
      const { bytesRead } = await this.#handle.read(room, filled, wanted - filled, offset + filled)
      if (bytesRead === 0)
        throw new AparError('invalid_request', `${this.path}: it became shorter while it was read`)
      filled += bytesRead
    }
    this.#window = room
    this.#start = offset
    return room.subarray(0, length)
  }

  close(): Promise<void> {
    return this.#handle.close()
  }
}
