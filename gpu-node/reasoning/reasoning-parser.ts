import { heldBack } from '../tools/held-back.ts'
import type { ReasoningFormat } from './reasoning-format.ts'

export interface SplitText {
  readonly reasoning: string
  readonly content: string
}

/** `branch`: one that was forked while its parent was thinking, whose whole text is reasoning. */
export type ParserStart = 'before' | 'inside' | 'branch'

/**
 * Takes the text of an answer, in pieces of any size, apart into what the model thinks and what it says. Reasoning stands
 * at the beginning, in one or more spans: markers in what follows are content. White space around the markers belongs to
 * neither.
 */
export class ReasoningParser {
  readonly #format: ReasoningFormat
  readonly #isBranch: boolean
  #state: 'before' | 'inside' | 'content'
  #held = ''
  /** UTF-16 code units of the text that are in no earlier piece and not held back. */
  #read = 0
  #thought: boolean
  #contentStart: number | undefined
  /** Whether the open span has text, and whether an earlier one has. */
  #spanHasText = false
  #hasText = false

  constructor(format: ReasoningFormat, start: ParserStart) {
    this.#format = format
    this.#isBranch = start === 'branch'
    this.#state = start === 'before' ? 'before' : 'inside'
    this.#thought = this.#state === 'inside'
  }

  /** Whether a fork here begins a branch that thinks. */
  get inside(): boolean {
    return this.#state === 'inside'
  }

  /** Whether the answer has a span of reasoning, which may be empty. */
  get thought(): boolean {
    return this.#thought
  }

  /** Where the content begins in the whole text, in UTF-16 code units; undefined before it does. */
  get contentStart(): number | undefined {
    return this.#contentStart
  }

  push(text: string): SplitText {
    const parts = { reasoning: '', content: '' }
    let rest = this.#held + text
    this.#held = ''
    while (rest !== '') {
      const taken = this.#take(rest, parts)
      this.#read += taken
      rest = rest.slice(taken)
      if (taken === 0) break
    }
    this.#held = rest
    return parts
  }

  /** Where the text forks: what was held back, which no longer can become a marker. */
  release(): SplitText {
    const held = this.#held
    this.#held = ''
    if (held === '') return { reasoning: '', content: '' }
    this.#read += held.length
    if (this.#state === 'inside') return { reasoning: this.#reasoning(held), content: '' }
    return { reasoning: '', content: this.#begin(held, this.#read - held.length) }
  }

  /** At the end of the answer: a part of a marker that ends the reasoning is none of it. */
  flush(): SplitText {
    if (this.#state !== 'inside' && (!this.#thought || this.#held.trim() !== '')) return this.release()
    this.#held = ''
    return { reasoning: '', content: '' }
  }

  /** Adds some of the text to `parts`; returns how much. */
  #take(text: string, parts: { reasoning: string; content: string }): number {
    if (this.#state === 'content') {
      parts.content += text
      return text.length
    }
    const { open } = this.#format
    if (this.#state === 'inside') return this.#takeReasoning(text, parts)
    const trimmed = text.trimStart()
    if (trimmed.startsWith(open)) {
      this.#state = 'inside'
      this.#thought = true
      this.#spanHasText = false
      return text.length - trimmed.length + open.length
    }
    if (open.startsWith(trimmed)) return 0
    parts.content += this.#begin(text, this.#read)
    return text.length
  }

  #takeReasoning(text: string, parts: { reasoning: string }): number {
    const { open, close } = this.#format
    const found = [open, close]
      .map((marker) => ({ marker, at: text.indexOf(marker) }))
      .filter(({ at }) => at >= 0)
      .sort((a, b) => a.at - b.at)[0]
    if (!found) {
      const length = heldBack(text, [open, close])
      parts.reasoning += this.#reasoning(text.slice(0, length))
      return length
    }
    parts.reasoning += this.#reasoning(text.slice(0, found.at).trimEnd())
    if (found.marker === close && !this.#isBranch) this.#state = 'before'
    return found.at + found.marker.length
  }

  /** The text without the white space at the beginning of a span; a line break is between two spans. */
  #reasoning(text: string): string {
    const shown = this.#spanHasText ? text : text.trimStart()
    if (shown === '') return ''
    const joint = this.#hasText && !this.#spanHasText ? '\n' : ''
    this.#spanHasText = true
    this.#hasText = true
    return joint + shown
  }

  /** The beginning of the content, without the white space behind a span. `at`: of the text. */
  #begin(text: string, at: number): string {
    const content = this.#thought ? text.trimStart() : text
    this.#state = 'content'
    this.#contentStart = at + text.length - content.length
    return content
  }
}
