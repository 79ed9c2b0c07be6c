import { isClosing } from './closing.ts'
import type { ItemMarker, Line } from './lines.ts'
import { titleEnd } from './titles.ts'

export interface Item {
  /** Index of its first line, and after its last line that is not blank. */
  from: number
  to: number
  /** Offset where its detail begins, when it has a title. */
  detail?: number | undefined
}

export interface List {
  items: Item[]
  /** Index after its last line. */
  to: number
  numbered: boolean
  /** Numbers go up by one. */
  consecutive: boolean
}

/** Items of one list may differ by this many columns; what stands deeper is inside of an item. */
const INDENT_TOLERANCE = 1
/** Longest first line that is a title because a list of another kind follows it. */
const MAX_TITLE_LINE = 80

/** The list that begins at line `from`, with all lines that belong to its items, among the lines before `to`. */
export function listAt(text: string, lines: readonly Line[], from: number, to: number): List {
  const reader = new ListReader(text, lines, from)
  let at = from + 1
  while (at < to && reader.take(at)) at += 1
  return reader.end(at)
}

class ListReader {
  readonly #text: string
  readonly #lines: readonly Line[]
  readonly #style: ItemMarker['style']
  readonly #items: Item[] = []
  #indent: number
  #number: number | undefined
  #consecutive = true
  /** An item has more than one line. */
  #hasLongItem = false
  /** Index of the last line that is not blank. */
  #last: number
  /** The list ends before this line, unless its next number follows. */
  #endsAt: number | undefined
  /** Columns of the first numbered item of the same style inside of the current item. */
  #innerIndent: number | undefined
  /** First of the unindented text lines at the end of the current item. */
  #textFrom: number | undefined
  /** Style of the items at the list's own indentation that are inside of the current item. */
  #innerStyle: ItemMarker['style'] | undefined

  constructor(text: string, lines: readonly Line[], from: number) {
    const first = lines[from]
    if (!first?.item) throw new Error('a list begins with an item')
    this.#text = text
    this.#lines = lines
    this.#style = first.item.style
    this.#indent = first.indent
    this.#last = from
    this.#begin(from, first, first.item)
  }

  /** Whether the list goes on at this line. */
  take(at: number): boolean {
    const line = this.#lines[at]
    if (!line || line.kind === 'blank') return line !== undefined
    const inside = line.indent > this.#indent + INDENT_TOLERANCE
    if (line.item && this.#isNext(line, line.item)) {
      // Text between two items is part of the first, unless it introduces the second.
      if (this.#endsAt !== undefined && !this.#endsWithColon(this.#last)) this.#extend()
      this.#endsAt = undefined
      this.#begin(at, line, line.item)
    } else if (this.#endsAt !== undefined) {
      // A number that is not the next one begins another list: text stands between.
      if (line.item?.style === this.#style && !inside) return false
    } else if (line.item && !inside && this.#beginsAnother(line.item, this.#last < at - 1)) {
      return false
    } else if (!this.#holds(at, line, inside)) {
      if (this.#number === undefined || line.kind === 'rule' || isLeftOf(line, this.#indent)) return false
      this.#endsAt = at
    }
    this.#last = at
    if (this.#endsAt === undefined) this.#extend()
    return true
  }

  end(at: number): List {
    const { to: end } = this.#items.at(-1) ?? { to: at }
    for (const item of this.#items) item.detail ??= this.#titleLine(item)
    return {
      items: this.#items,
      to: this.#endsAt === undefined ? at : end,
      numbered: this.#number !== undefined,
      consecutive: this.#consecutive,
    }
  }

  /** Whether an item is the list's next one. */
  #isNext(line: Line, item: ItemMarker): boolean {
    if (item.style !== this.#style) return false
    const near = Math.abs(line.indent - this.#indent) <= INDENT_TOLERANCE
    if (this.#number === undefined || item.number !== this.#number + 1)
      return item.number === undefined && near
    // Models lose the indentation of an answer's first line: the number says that the item is the next one, unless
    // a list inside of the current item counts the same.
    return near || this.#innerIndent === undefined || line.indent + INDENT_TOLERANCE < this.#innerIndent
  }

  /** Whether a line that is not the next item is part of the list. */
  #holds(at: number, line: Line, inside: boolean): boolean {
    if (inside) {
      if (line.item?.style === this.#style) this.#innerIndent ??= line.indent
      return true
    }
    if (line.kind === 'rule' || (line.item && isLeftOf(line, this.#indent))) return false
    const gap = this.#last < at - 1
    if (line.item?.style === this.#style) {
      this.#consecutive = false
      this.#begin(at, line, line.item)
      return true
    }
    if (!line.item && this.#closes(line)) return false
    const held =
      !gap ||
      this.#awaitsMore() ||
      (line.code && this.#lines[this.#last]?.code) ||
      (line.item && line.item.style === this.#innerStyle)
    if (!held) return false
    this.#innerStyle = line.item?.style
    if (line.kind !== 'text') this.#textFrom = undefined
    else this.#textFrom ??= at
    return true
  }

  /** A list that begins again at 1, behind a blank line or behind a line of text that introduces it. */
  #beginsAnother({ style, number }: ItemMarker, gap: boolean): boolean {
    if (style !== this.#style || number !== 1 || (this.#number ?? 1) === 1) return false
    if (this.#textFrom !== undefined) this.#cutAt(this.#textFrom)
    return gap || this.#textFrom !== undefined
  }

  /** The current item ends before a line that was taken as part of it. */
  #cutAt(index: number): void {
    const item = this.#items.at(-1)
    if (!item || index <= item.from) return
    this.#endsAt = index
    item.to = index
    while (item.to > item.from + 1 && this.#lines[item.to - 1]?.kind === 'blank') item.to -= 1
  }

  /** A line behind one-line items that speaks of the list as a whole, or is a label of what follows. */
  #closes(line: Line): boolean {
    if (this.#hasLongItem || line.kind !== 'text' || line.code) return false
    return isClosing(this.#text, line) || isLabel(this.#text, line)
  }

  #begin(at: number, line: Line, item: ItemMarker): void {
    this.#items.push({ from: at, to: at + 1, detail: titleEnd(this.#text, line) })
    this.#number = item.number
    this.#indent = Math.min(this.#indent, line.indent)
    this.#innerIndent = undefined
    this.#innerStyle = undefined
    this.#textFrom = undefined
  }

  /** The current item goes on to the last line. */
  #extend(): void {
    const item = this.#items.at(-1)
    if (!item) return
    item.to = this.#last + 1
    this.#hasLongItem ||= item.to > item.from + 1
  }

  /** The current item goes on behind a blank line: it ends with a colon, or is nothing but a title so far. */
  #awaitsMore(): boolean {
    const item = this.#items.at(-1)
    const isTitle = item?.to === this.#last + 1 && item.detail === this.#lines[this.#last]?.end
    return isTitle || this.#endsWithColon(this.#last)
  }

  #endsWithColon(line: number): boolean {
    const last = this.#text[(this.#lines[line]?.end ?? 0) - 1]
    return last === ':' || last === '：'
  }

  /** The end of a short first line without a delimiter: a title when a list follows it inside of the item. */
  #titleLine(item: Item): number | undefined {
    const first = this.#lines[item.from]
    let next = item.from + 1
    while (next < item.to && this.#lines[next]?.kind === 'blank') next += 1
    if (!first || next >= item.to || !this.#lines[next]?.item) return undefined
    const isTitle =
      first.end - first.start <= MAX_TITLE_LINE &&
      !/[.!?。！？;,]$/.test(this.#text.slice(first.end - 1, first.end))
    return isTitle ? first.end : undefined
  }
}

const MAX_LABEL = 40

/** A short line that ends with a colon: `Ingredients:`. */
function isLabel(text: string, { start, end }: Line): boolean {
  return end - start <= MAX_LABEL && text[end - 1] === ':' && /\p{Lu}/u.test(text[start] ?? '')
}

function isLeftOf(line: Line, indent: number): boolean {
  return line.indent < indent - INDENT_TOLERANCE
}
