import { randomUUID } from 'node:crypto'
import type { Piece } from './piece.ts'

/**
 * Names for the tokens that only a template may write. A user's `[Fork]` is six characters, the template's is the
 * token: the tokenizer knows such a token only under an unguessable name, and only text of the template is replaced by
 * names.
 */
export class ControlText {
  readonly #names: ReadonlyMap<string, string>
  readonly #pattern: RegExp | undefined

  /** `contents`: the texts of the tokens, as the tokenizer's file has them. */
  constructor(contents: Iterable<string>) {
    const nonce = randomUUID()
    const unique = [...new Set(contents)]
    this.#names = new Map(unique.map((content, index) => [content, `\u{F0002}${nonce}:${index}\u{F0003}`]))
    // Alternatives are tried in order: a token may be the beginning of a longer one.
    const longestFirst = unique.sort((a, b) => b.length - a.length).map(escapeRegExp)
    this.#pattern = unique.length > 0 ? new RegExp(longestFirst.join('|'), 'g') : undefined
  }

  /** The texts of the control tokens. */
  get contents(): Iterable<string> {
    return this.#names.keys()
  }

  has(content: string): boolean {
    return this.#names.has(content)
  }

  /** The name under which the tokenizer knows a token; the text itself when it is not a control token. */
  nameOf(content: string): string {
    return this.#names.get(content) ?? content
  }

  /** The text to encode: with names in place of the control tokens that the template wrote. */
  named(pieces: readonly Piece[]): string {
    return pieces.map(({ text, ofTemplate }) => (ofTemplate ? this.#replaced(text) : text)).join('')
  }

  /** The control tokens in a text, whoever wrote them. */
  in(text: string): string[] {
    return this.#pattern ? (text.match(this.#pattern) ?? []) : []
  }

  #replaced(text: string): string {
    return this.#pattern ? text.replace(this.#pattern, (content) => this.nameOf(content)) : text
  }
}

export function escapeRegExp(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&')
}
