import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'

const WINDOW_MS = 10_000
/** Enough for a fault of the runtime with its stack. */
const MAX_LINES = 20

/**
 * Limits what the runtime itself writes: it complains, in two long lines, about every request with a header that it
 * cannot read, and any stranger can send such requests. Lines of our log, which has its own limits, all pass.
 */
export class RuntimeOutput {
  readonly #write: (line: string) => void
  #since = Number.NEGATIVE_INFINITY
  #lines = 0

  constructor(write: (line: string) => void) {
    this.#write = write
  }

  read(output: Readable): void {
    createInterface(output).on('line', (line) => this.line(line))
  }

  line(line: string, now = performance.now()): void {
    if (line.startsWith('{')) {
      this.#write(line)
      return
    }
    if (now - this.#since >= WINDOW_MS) {
      const leftOut = this.#lines - MAX_LINES
      if (leftOut > 0) this.#write(`(${leftOut} more lines of the Workers runtime were left out)`)
      this.#since = now
      this.#lines = 0
    }
    if (++this.#lines <= MAX_LINES) this.#write(line)
  }
}
