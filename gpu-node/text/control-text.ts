import { randomUUID } from 'node:crypto'

/**
 * Distinguishes control tokens written by the template from the same text written by a user: a user's `[Fork]` is
 * six characters, the template's is the token. User text is marked before the template is rendered. Every
 * unmarked occurrence in the rendered prompt is then replaced by an unguessable name, under which the tokenizer
 * knows the token.
 */
export class ControlText {
  readonly #contents: readonly string[]
  readonly #pattern: RegExp | undefined
  readonly #mark = `\u{F0000}${randomUUID()}\u{F0001}`
  readonly #nonce = randomUUID()

  /** `contents`: the texts of the control tokens, as tokenizer.json has them. */
  constructor(contents: readonly string[]) {
    this.#contents = contents
    const longestFirst = [...contents].sort((a, b) => b.length - a.length)
    this.#pattern =
      contents.length > 0 ? new RegExp(longestFirst.map(escapeRegExp).join('|'), 'g') : undefined
  }

  /** The name under which the tokenizer knows a control token. */
  nameOf(content: string): string {
    return `\u{F0002}${this.#nonce}:${this.#contents.indexOf(content)}\u{F0003}`
  }

  /** Marks user text so that it contains no control token, neither alone nor together with adjacent template text. */
  guard(text: string): string {
    if (!this.#pattern) return text
    let guarded = text
    // Marking one occurrence may leave another one that overlapped it.
    for (let before = ''; before !== guarded; ) {
      before = guarded
      guarded = guarded.replace(this.#pattern, (match) => [...match].join(this.#mark))
    }
    return this.#guardEnds(guarded)
  }

  /** Replaces the template's control tokens by their names and removes the marks from user text. */
  resolve(rendered: string): string {
    const named = this.#pattern ? rendered.replace(this.#pattern, (match) => this.nameOf(match)) : rendered
    return named.replaceAll(this.#mark, '')
  }

  /** A partial token at either end could be completed by the template or by the next message. */
  #guardEnds(text: string): string {
    const trimmed = text.trim()
    if (trimmed === '') return text
    const start = text.indexOf(trimmed)
    const end = start + trimmed.length
    const before = this.#contents.some((content) => isEndOf(content, trimmed)) ? this.#mark : ''
    const after = this.#contents.some((content) => isStartOf(content, trimmed)) ? this.#mark : ''
    return text.slice(0, start) + before + trimmed + after + text.slice(end)
  }
}

/** True when `text` starts with a proper suffix of `content`, or lies inside such a suffix. */
function isEndOf(content: string, text: string): boolean {
  for (let from = 1; from < content.length; from++) {
    const end = content.slice(from)
    if (text.startsWith(end) || end.startsWith(text)) return true
  }
  return false
}

/** True when `text` ends with a proper prefix of `content`, or lies inside such a prefix. */
function isStartOf(content: string, text: string): boolean {
  for (let length = 1; length < content.length; length++) {
    const start = content.slice(0, length)
    if (text.endsWith(start) || start.endsWith(text)) return true
  }
  return false
}

function escapeRegExp(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&')
}
