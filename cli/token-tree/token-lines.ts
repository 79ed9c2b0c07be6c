import type { Token } from '../../shared/token-tree.ts'
import { visible } from './visible.ts'

/** Wraps a text in a colour, when there are colours. */
export type Paint = (text: string, code: number | undefined) => string

export function painter(colours: boolean): Paint {
  return (text, code) =>
    colours && code !== undefined && text !== '' ? `\u001b[${code}m${text}\u001b[0m` : text
}

export const DIM = 2

const GUTTER_WIDTH = 2
const MIN_ROOM = 20
const WIDE =
  /[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6]|\p{Extended_Pictographic}/u

/** The tokens of a segment as lines of a terminal. A line holds only written or only given text; its gutter says which. */
export class TokenLines {
  readonly #gutter: { outer: string; colour: number | undefined }
  readonly #room: number
  readonly #pieces: boolean
  readonly #paint: Paint
  readonly #lines: string[] = []
  #line = ''
  #width = 0
  /** Undefined while the line has no text. */
  #given: boolean | undefined
  #begunBy = false

  /** @param columns undefined: lines are not wrapped. @param pieces show each token with its id. */
  constructor(
    gutter: { outer: string; colour: number | undefined },
    columns: number | undefined,
    pieces: boolean,
    paint: Paint,
  ) {
    this.#gutter = gutter
    this.#room = columns === undefined ? Number.POSITIVE_INFINITY : Math.max(MIN_ROOM, columns - GUTTER_WIDTH)
    this.#pieces = pieces
    this.#paint = paint
  }

  add(token: Token): void {
    const { text, special, given, id } = token
    if (this.#line === '') this.#begunBy = given
    if (special === undefined) {
      if (this.#given !== undefined && this.#given !== given) this.#break()
      this.#given = given
    }
    if (this.#pieces) {
      const piece = special === undefined ? visible(JSON.stringify(text)) : visible(special)
      const shownId = id === undefined ? '' : ` ${id}`
      this.#put(piece, given ? DIM : undefined, shownId.length + 2)
      this.#append(this.#paint(shownId, DIM), shownId.length)
      this.#append('  ', 2)
    } else if (special !== undefined) this.#put(visible(special), DIM)
    else this.#text(visible(text), given ? DIM : undefined)
  }

  /** A note behind the last token. */
  mark(text: string, colour: number | undefined): void {
    this.#put(text, colour)
  }

  end(): string[] {
    if (this.#line !== '') this.#break()
    return this.#lines
  }

  #text(text: string, colour: number | undefined): void {
    for (const [index, line] of text.split('\n').entries()) {
      if (index > 0) this.#break()
      // Words, because a text that is not in tokens is one token.
      for (const word of line.match(/\s*\S+|\s+$/gu) ?? []) this.#put(word, colour)
    }
  }

  /** @param behind columns that have to fit on the same line, behind the text. */
  #put(text: string, colour: number | undefined, behind = 0): void {
    const width = [...text].reduce((sum, character) => sum + (WIDE.test(character) ? 2 : 1), 0)
    if (this.#width > 0 && this.#width + width + behind > this.#room) this.#break()
    this.#append(this.#paint(text, colour), width)
  }

  #append(text: string, width: number): void {
    this.#line += text
    this.#width += width
  }

  #break(): void {
    const { outer, colour } = this.#gutter
    const gutter = this.#paint((this.#given ?? this.#begunBy) ? '┊ ' : '│ ', colour)
    this.#lines.push(`${outer}${gutter}${this.#line.trimEnd()}`)
    this.#line = ''
    this.#width = 0
    // A line that goes on is of the same kind; the next text decides again.
    this.#begunBy = this.#given ?? this.#begunBy
    this.#given = undefined
  }
}
