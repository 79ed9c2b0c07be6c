import type { TokenBytes } from './token-bytes.ts'

const SPACE = 0x20

/** Token ids of one branch to text, as they come; a character is held back until its last byte is there. */
export class BranchDecoder {
  readonly #bytes: TokenBytes
  // A byte order mark is text here, not a hint.
  readonly #utf8 = new TextDecoder('utf-8', { ignoreBOM: true })
  #dropSpace: boolean

  /** With `dropLeadingSpace` the first text loses one space: the prefix that some tokenizers put before every text. */
  constructor(bytes: TokenBytes, dropLeadingSpace = false) {
    this.#bytes = bytes
    this.#dropSpace = dropLeadingSpace
  }

  /** The text that this token completes; '' for special tokens. */
  push(token: number): string {
    const bytes = this.#bytes[token]
    if (!bytes || bytes.length === 0) return ''
    const dropped = this.#dropSpace && bytes[0] === SPACE ? bytes.subarray(1) : bytes
    this.#dropSpace = false
    return this.#utf8.decode(dropped, { stream: true })
  }

  /** What is left of an unfinished character, as U+FFFD. Call where a text ends or is cut by a fork. */
  flush(): string {
    return this.#utf8.decode()
  }
}
