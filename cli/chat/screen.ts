/** As much of a terminal as is drawn on. */
export interface Terminal {
  write(text: string): unknown
  readonly columns?: number
  readonly rows?: number
}

const CLEAR_LINE = '\u001b[2K'
const CLEAR_BELOW = '\u001b[0J'
const WRAP_OFF = '\u001b[?7l'
const WRAP_ON = '\u001b[?7h'

/** A block of lines at the bottom of a terminal that is drawn over in place. */
export class LiveBlock {
  readonly #terminal: Terminal
  #drawn = 0

  constructor(terminal: Terminal) {
    this.#terminal = terminal
  }

  draw(lines: readonly string[]): void {
    const body = lines.map((line) => `${CLEAR_LINE}${line}\n`).join('')
    // Without wrapping a wide character cannot make one line two, which would break the way back up.
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
