import type { TokenBytes } from '../text/token-bytes.ts'

/** Of texts whose tokens are kept, and of the UTF-16 code units of such a text. */
const MAX_KEPT = 8192
const MAX_KEPT_CHARS = 128

/** Token ids of texts that a prompt does not have, as the tokenizer has them within an answer. */
export class KnownTexts {
  readonly #tokenize: (text: string) => Promise<readonly number[]>
  readonly #bytes: TokenBytes
  /** The oldest first. */
  readonly #kept = new Map<string, readonly number[] | undefined>()

  /** `tokenize`: a whole text, to which some tokenizers add a space. */
  constructor(tokenize: (text: string) => Promise<readonly number[]>, bytes: TokenBytes) {
    this.#tokenize = tokenize
    this.#bytes = bytes
  }

  /** The tokens of `text` behind `before`; undefined when no tokens of the tokenizer are just this text. */
  async tokens(before: string, text: string): Promise<readonly number[] | undefined> {
    const key = JSON.stringify([before, text])
    if (this.#kept.has(key)) return this.#kept.get(key)
    const wanted = Buffer.from(text)
    // Where a token lies across the beginning, the text begins with one of its own.
    const found =
      this.#last(await this.#tokenize(before + text), wanted) ??
      this.#last(await this.#tokenize(text), wanted)
    if (key.length <= MAX_KEPT_CHARS) this.#kept.set(key, found)
    const [oldest] = this.#kept.keys()
    if (this.#kept.size > MAX_KEPT && oldest !== undefined) this.#kept.delete(oldest)
    return found
  }

  /** The last of the tokens, whose bytes are those wanted. */
  #last(tokens: readonly number[], wanted: Buffer): readonly number[] | undefined {
    let at = tokens.length
    for (let length = 0; length < wanted.length && at > 0; )
      length += this.#bytes.lengthOf(tokens[--at] ?? -1)
    const last = tokens.slice(at)
    const bytes = Buffer.concat(last.map((token) => this.#bytes.of(token) ?? Buffer.alloc(0)))
    return bytes.equals(wanted) ? last : undefined
  }
}
