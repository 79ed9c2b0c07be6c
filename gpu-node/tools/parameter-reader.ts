import { heldBack } from './held-back.ts'
import { JsonScanner } from './json-scanner.ts'
import type { Parameter } from './parameters.ts'
import type { ParameterFormat } from './tool-format.ts'

/** What a piece of a call makes: JSON of the arguments, and behind them the text that is not theirs. */
export interface ArgumentPiece {
  readonly json: string
  /** undefined: the arguments go on. */
  readonly rest: string | undefined
}

/** Reads arguments that are a JSON object. */
export class ObjectReader {
  readonly #scanner = new JsonScanner()

  push(piece: string): ArgumentPiece {
    const { json, length, isWhole } = this.#scanner.pushObject(piece)
    return { json, rest: isWhole ? piece.slice(length) : undefined }
  }
}

/**
 * Reads arguments that are written parameter by parameter as the JSON object that they stand for. They may be a JSON
 * object, too (tool-grammar.ts).
 */
export class ParameterReader {
  readonly #format: ParameterFormat
  readonly #parameters: readonly Parameter[]
  /** Ends a text, which may have a line feed in front of it. */
  readonly #marker: string
  #state: 'between' | 'object' | 'text' | 'json' | 'closing' = 'between'
  #held = ''
  #read = 0
  #parameter: Parameter | undefined
  /** Of the text, its quote is given already. */
  #isQuoted = false
  #scanner = new JsonScanner()
  /** Characters in front of the next parameter. */
  #left = 0

  constructor(format: ParameterFormat, parameters: readonly Parameter[]) {
    this.#format = format
    this.#parameters = parameters
    this.#marker = format.end.trimEnd()
  }

  push(piece: string): ArgumentPiece {
    let json = ''
    let text = this.#held + piece
    this.#held = ''
    while (text !== '') {
      const before = text
      const taken = this.#take(text)
      json += taken.json
      if (taken.isWhole) return { json, rest: taken.rest }
      text = taken.rest
      if (text === before) {
        this.#held = text
        break
      }
    }
    return { json, rest: undefined }
  }

  /** `rest` as it was: more is needed. */
  #take(text: string): { json: string; rest: string; isWhole?: boolean } {
    switch (this.#state) {
      case 'between':
        return this.#between(text)
      case 'object': {
        const { json, length, isWhole } = this.#scanner.pushObject(text)
        return { json, rest: text.slice(length), isWhole }
      }
      case 'text':
        return this.#text(text)
      case 'json': {
        const { json, length, isWhole } = this.#scanner.pushLine(text)
        if (!isWhole) return { json, rest: '' }
        this.#close(this.#format.end.length)
        return { json, rest: text.slice(length + 1) }
      }
      default: {
        const skipped = Math.min(this.#left, text.length)
        this.#left -= skipped
        if (this.#left === 0) this.#state = 'between'
        return { json: '', rest: text.slice(skipped) }
      }
    }
  }

  #between(text: string): { json: string; rest: string; isWhole?: boolean } {
    const { begin, middle } = this.#format
    if (this.#read === 0 && text.startsWith('{')) {
      this.#state = 'object'
      return this.#take(text)
    }
    const opening = ({ name }: Parameter) => begin + name + middle
    const parameter = this.#parameters.find((each) => text.startsWith(opening(each)))
    if (parameter) {
      this.#state = parameter.as === 'json' ? 'json' : 'text'
      this.#parameter = parameter
      this.#isQuoted = false
      this.#scanner = new JsonScanner()
      const json = `${this.#read++ === 0 ? '{' : ', '}${JSON.stringify(parameter.name)}: `
      return { json, rest: text.slice(opening(parameter).length) }
    }
    if (text.startsWith(begin) || begin.startsWith(text)) return { json: '', rest: text }
    return { json: this.#read === 0 ? '{}' : '}', rest: text, isWhole: true }
  }

  #text(text: string): { json: string; rest: string } {
    const at = text.indexOf(this.#marker)
    const mayBeNull = this.#parameter?.as === 'text or null' && !this.#isQuoted
    if (at < 0) {
      const value = text.slice(0, heldBack(text, [this.#marker]))
      if (value === '' || (mayBeNull && 'null'.startsWith(value))) return { json: '', rest: text }
      return { json: this.#quoted(value), rest: text.slice(value.length) }
    }
    const value = text.slice(0, at).replace(/\n$/, '')
    this.#close(this.#format.end.length - this.#marker.length)
    const json = mayBeNull && value === 'null' ? value : `${this.#quoted(value)}"`
    return { json, rest: text.slice(at + this.#marker.length) }
  }

  #quoted(value: string): string {
    const json = JSON.stringify(value).slice(this.#isQuoted ? 1 : 0, -1)
    this.#isQuoted = true
    return json
  }

  #close(length: number): void {
    this.#state = length > 0 ? 'closing' : 'between'
    this.#left = length
  }
}
