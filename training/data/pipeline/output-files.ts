import { type FileHandle, mkdir, open } from 'node:fs/promises'
import { dirname, join } from 'node:path'

/** The files of a build, to which it only appends: their lengths say how far it has come. */
export class OutputFiles {
  readonly #folder: string
  readonly #files = new Map<string, { handle: FileHandle; length: number }>()
  /** By name: bytes that count of files that a cut build has left. */
  readonly #lengths: Readonly<Record<string, number>>

  constructor(folder: string, lengths: Readonly<Record<string, number>> = {}) {
    this.#folder = folder
    this.#lengths = lengths
  }

  async append(name: string, bytes: Uint8Array): Promise<void> {
    const file = await this.#open(name)
    for (let at = 0; at < bytes.length; ) {
      const { bytesWritten } = await file.handle.write(bytes, at, bytes.length - at, file.length)
      at += bytesWritten
      file.length += bytesWritten
    }
  }

  /** Bytes in a file so far. */
  async length(name: string): Promise<number> {
    return (await this.#open(name)).length
  }

  /** Lengths of all files, once these bytes are on disk. */
  async flush(): Promise<Record<string, number>> {
    const lengths: Record<string, number> = { ...this.#lengths }
    for (const [name, { handle, length }] of this.#files) {
      await handle.datasync()
      lengths[name] = length
    }
    return lengths
  }

  async close(): Promise<void> {
    const files = [...this.#files.values()]
    this.#files.clear()
    for (const { handle } of files) await handle.close()
  }

  async #open(name: string) {
    const known = this.#files.get(name)
    if (known) return known
    const path = join(this.#folder, name)
    await mkdir(dirname(path), { recursive: true })
    const length = this.#lengths[name] ?? 0
    const handle = await open(path, length === 0 ? 'w' : 'r+')
    await handle.truncate(length)
    const file = { handle, length }
    this.#files.set(name, file)
    return file
  }
}
