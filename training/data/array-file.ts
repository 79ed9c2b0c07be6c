import { once } from 'node:events'
import { createWriteStream } from 'node:fs'
import { finished } from 'node:stream/promises'

/** Writes a JSON array (or JSON lines) to a file, one value at a time. */
export class ArrayFile {
  readonly #stream
  readonly #style: 'array' | 'lines'
  #count = 0

  constructor(path: string, style: 'array' | 'lines' = 'array') {
    this.#stream = createWriteStream(path)
    // close() reports errors; without a listener they would end the process.
    this.#stream.on('error', () => {})
    this.#style = style
  }

  async add(value: unknown): Promise<void> {
    const json = JSON.stringify(value)
    const text = this.#style === 'lines' ? `${json}\n` : `${this.#count === 0 ? '[' : ','}\n${json}`
    this.#count += 1
    if (!this.#stream.write(text) && !this.#stream.errored) await once(this.#stream, 'drain')
  }

  async close(): Promise<void> {
    if (this.#style === 'array') this.#stream.write(this.#count === 0 ? '[]\n' : '\n]\n')
    this.#stream.end()
    await finished(this.#stream)
  }
}
