import { heldBack } from './held-back.ts'
import { JsonScanner } from './json-scanner.ts'
import { type ArgumentPiece, ObjectReader, ParameterReader } from './parameter-reader.ts'
import type { ToolParameters } from './parameters.ts'
import type { ToolFormat } from './tool-format.ts'

/** A part of an answer. A call's arguments come in pieces; its end is that of the answer, or the next call. */
export type AnswerPart =
  | { readonly content: string }
  | { readonly call: number; readonly name: string }
  | { readonly call: number; readonly text: string }

export interface ParserOptions {
  readonly format: ToolFormat
  readonly names: readonly string[]
  /** Of the tools, in a format that writes arguments so. */
  readonly parameters?: ToolParameters | undefined
  /** The answer is calls, or it is cut off before the first one. */
  readonly required: boolean
  /** The answer matches a format, or is calls: what begins as text has none. `json`: the format is JSON. */
  readonly instead?: 'json' | 'text' | undefined
}

/**
 * Takes the text of an answer, in pieces of any size, apart into text and calls of tools. The answer keeps to the format's
 * grammar (tool-grammar.ts), so that calls have no errors: only the end may be missing.
 */
export class ToolParser {
  readonly #options: ParserOptions
  /** What begins the first call, for each tool; and what goes from one call to the next. */
  readonly #openings: ReadonlyMap<string, string>
  readonly #continuations: ReadonlyMap<string, string>
  #held = ''
  #state: 'text' | 'arguments' | 'behind arguments' | 'only text' = 'text'
  #arguments: { push(text: string): ArgumentPiece } = new ObjectReader()
  readonly #text: JsonScanner | undefined
  #calls = 0

  constructor(options: ParserOptions) {
    this.#options = options
    if (options.instead === 'json') this.#text = new JsonScanner()
    const { format, names } = options
    const beginning = (before: string) =>
      new Map(names.map((name) => [before + format.begin + name + format.middle, name]))
    this.#openings = beginning(format.open)
    this.#continuations = beginning(format.end + format.between)
  }

  push(text: string): AnswerPart[] {
    const parts: AnswerPart[] = []
    let rest = text
    while (rest !== '') rest = this.#take(rest, parts)
    return parts
  }

  /** At the end of the answer: the text that was held back, unless it is part of a call that was cut off. */
  flush(): AnswerPart[] {
    const held = this.#held
    this.#held = ''
    if (held === '' || this.#state !== 'text' || this.#isCall(held)) return []
    const parts: AnswerPart[] = []
    this.#add(held, parts)
    return parts
  }

  /** Takes some of the text, adds what it makes to `parts`, and returns the rest. */
  #take(text: string, parts: AnswerPart[]): string {
    switch (this.#state) {
      case 'only text':
        this.#add(text, parts)
        return ''
      case 'text':
        return this.#textOrCall(this.#held + text, parts)
      case 'arguments': {
        const { json, rest } = this.#arguments.push(text)
        if (json !== '') parts.push({ call: this.#calls - 1, text: json })
        if (rest !== undefined) this.#state = 'behind arguments'
        return rest ?? ''
      }
      default:
        return this.#behind(this.#held + text, parts)
    }
  }

  #textOrCall(text: string, parts: AnswerPart[]): string {
    const { instead } = this.#options
    const found = first(text, this.#openings)
    if (found && (instead === undefined || text.slice(0, found.at).trim() === '')) {
      // White space between text and a call belongs to neither.
      const content = text.slice(0, found.at).trimEnd()
      this.#add(content, parts)
      this.#begin(found.name, parts)
      return text.slice(found.at + found.length)
    }
    this.#held = text.slice(heldBack(text, this.#openings.keys()))
    const content = text.slice(0, text.length - this.#held.length)
    this.#add(content, parts)
    if (instead === undefined || content.trim() === '') return ''
    this.#state = 'only text'
    const rest = this.#held
    this.#held = ''
    return rest
  }

  #add(text: string, parts: AnswerPart[]): void {
    const content = this.#text?.push(text).json ?? text
    if (content !== '') parts.push({ content })
  }

  #behind(text: string, parts: AnswerPart[]): string {
    const found = first(text, this.#continuations)
    if (!found) {
      this.#held = text
      return ''
    }
    this.#begin(found.name, parts)
    return text.slice(found.at + found.length)
  }

  #begin(name: string, parts: AnswerPart[]): void {
    this.#held = ''
    this.#state = 'arguments'
    this.#arguments = this.#readerOf(name)
    parts.push({ call: this.#calls++, name })
  }

  #readerOf(name: string): { push(text: string): ArgumentPiece } {
    const { format, parameters } = this.#options
    return format.parameters
      ? new ParameterReader(format.parameters, parameters?.get(name) ?? [])
      : new ObjectReader()
  }

  /** Whether a text that was held back is the beginning of a call, and not only looks like it. */
  #isCall(held: string): boolean {
    const { format, names, required } = this.#options
    const { trigger } = format
    if (required) return true
    if (trigger !== undefined) return held.trimStart().startsWith(trigger)
    return names.some((name) => held.trimStart().startsWith(`${format.open}${format.begin}${name}"`))
  }
}

function first(text: string, openings: ReadonlyMap<string, string>) {
  let found: { at: number; length: number; name: string } | undefined
  for (const [opening, name] of openings) {
    const at = text.indexOf(opening)
    if (at >= 0 && at < (found?.at ?? Number.POSITIVE_INFINITY)) found = { at, length: opening.length, name }
  }
  return found
}
