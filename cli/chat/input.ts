const FENCE = '"""'

/**
 * Puts the lines of a user together: one that ends with a backslash goes on in the next one, and so does all that is
 * between two lines with `"""`.
 */
export class InputLines {
  #lines: string[] = []
  #fenced = false

  /** Whether another line is needed. */
  get isOpen(): boolean {
    return this.#fenced || this.#lines.length > 0
  }

  /** The whole text once its last line is there. */
  push(line: string): string | undefined {
    if (line.trim() === FENCE) {
      this.#fenced = !this.#fenced
      return this.#fenced ? undefined : this.#take()
    }
    if (this.#fenced) {
      this.#lines.push(line)
      return undefined
    }
    if (line.endsWith('\\')) {
      this.#lines.push(line.slice(0, -1))
      return undefined
    }
    this.#lines.push(line)
    return this.#take()
  }

  /** Forgets what is not complete. */
  clear(): void {
    this.#take()
    this.#fenced = false
  }

  #take(): string {
    const text = this.#lines.join('\n')
    this.#lines = []
    return text
  }
}
