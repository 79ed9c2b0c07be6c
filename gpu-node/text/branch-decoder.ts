import type { TokenBytes } from './token-bytes.ts'

const SPACE = 0x20

/**
 * Decodes the token ids of one branch to text, token by token; a character is held back until its last byte has
 * arrived.
 */
export class BranchDecoder {
  readonly #bytes: TokenBytes
  // A byte order mark in the text is kept as text.
  readonly #utf8 = new TextDecoder('utf-8', { ignoreBOM: true })
  #dropSpace: boolean

  /** `dropLeadingSpace`: remove one space at the start of the text, which some tokenizers add before every text. */
  constructor(bytes: TokenBytes, dropLeadingSpace = false) {
    this.#bytes = bytes
    this.#dropSpace = dropLeadingSpace
  }

  /** The text that this token completes; '' for special tokens. */
  push(token: number): string {
    const bytes = this.#bytes.of(token)
    if (!bytes || bytes.length === 0) return ''
    const dropped = this.#dropSpace && bytes[0] === SPACE ? bytes.subarray(1) : bytes
    this.#dropSpace = false
    return this.#utf8.decode(dropped, { stream: true })
  }

  /** Returns an incomplete character as U+FFFD. Call at the end of the text and at a fork. */
  flush(): string {
    return this.#utf8.decode()
  }
}
