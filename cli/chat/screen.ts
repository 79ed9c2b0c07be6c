/** The part of a terminal stream that drawing needs. */
export interface Terminal {
  write(text: string): unknown
  readonly columns?: number
  readonly rows?: number
  /** Absent: none. */
  hasColors?(): boolean
}

const CLEAR_LINE = '\u001b[2K'
const CLEAR_BELOW = '\u001b[0J'
const WRAP_OFF = '\u001b[?7l'
const WRAP_ON = '\u001b[?7h'

/** A block of lines at the bottom of a terminal that is redrawn in place. */
export class LiveBlock {
  readonly #terminal: Terminal
  #drawn = 0

  constructor(terminal: Terminal) {
    this.#terminal = terminal
  }

  draw(lines: readonly string[]): void {
    const body = lines.map((line) => `${CLEAR_LINE}${line}\n`).join('')
    // Wrapping is off: a line that wraps (wide characters) would break the count of lines to move up.
    this.#terminal.write(`${this.#up()}${WRAP_OFF}${body}${CLEAR_BELOW}${WRAP_ON}`)
    this.#drawn = lines.length
  }

  clear(): void {
    this.#terminal.write(`${this.#up()}${CLEAR_BELOW}`)
    this.#drawn = 0
  }

  #up(): string {
    return this.#drawn > 0 ? `\u001b[${this.#drawn}A\r` : ''
  }
}
