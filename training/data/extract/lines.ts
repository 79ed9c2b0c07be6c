/** What starts a list item: a number with what follows it, or a bullet. Items of one list have the same. */
export type ItemStyle = '.' | ')' | '、' | '-' | '*' | '+' | '•'

export interface ItemMarker {
  style: ItemStyle
  /** Of a numbered item. */
  number?: number
  /** Offset of the item's text. */
  content: number
  /** Emphasis that is open before the text: `**` of `**1. Title:** detail`. */
  open?: string
}

/** A line of an answer. Offsets are in UTF-16 units of the answer. */
export interface Line {
  /** Offset of its first character that is not white space. */
  start: number
  /** Offset after its last character that is not white space. */
  end: number
  /** Offset of the next line. */
  next: number
  /** Columns before `start`; a tab goes on to the next multiple of 4. */
  indent: number
  /** `opaque`: a table row or a quotation; `rule`: a line of ---, *** or ___. */
  kind: 'blank' | 'text' | 'item' | 'heading' | 'rule' | 'opaque'
  /** Part of a fenced code block, or the line on which one begins or ends. */
  code: boolean
  item?: ItemMarker
  /** Of a heading: 1 to 6 for #, 7 for a line that is bold as a whole. */
  level?: number
}

const BOLD_LINE_LEVEL = 7
const MAX_BOLD_LINE = 100

const INDENT = /[ \t\u00a0\u3000]*/y
const FENCE = /```+|^~~~+/
const FENCES = /```+/g
const HEADING = /(#{1,6})[ \t]+(?=\S)/y
const RULE = /^([-*_])(?:[ \t]*\1){2,}$/
// No space is needed between a number and Chinese, Japanese or Korean text.
const NUMBER =
  /(\*\*|__)?(\d{1,9})([.)、])(\*\*|__)?(?:[ \t\u00a0]+(?=\S)|(?=[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]))/y
const BULLET = /([-*+•])[ \t\u00a0]+(?=\S)/y

/** The lines of a text, classified. Time is linear in the text. */
export function linesOf(text: string): Line[] {
  const lines: Line[] = []
  let inCode = false
  for (let at = 0; at < text.length; ) {
    const newline = text.indexOf('\n', at)
    const next = newline === -1 ? text.length : newline + 1
    const start = Math.min(matchAt(INDENT, text, at)?.end ?? at, next)
    const end = trimmedEnd(text, start, next)
    const line: Line = { start, end, next, indent: columns(text, at, start), kind: 'blank', code: inCode }
    if (end > start) {
      const content = text.slice(start, end)
      const fences = FENCE.test(content) ? (content.match(FENCES)?.length ?? 1) : 0
      line.code ||= fences > 0
      // A line on which code begins ("1. Run this: ```") is classified like others; those inside are not.
      line.kind = 'text'
      if (!inCode) classify(line, text, content, lines.at(-1))
      if (fences % 2 === 1) inCode = !inCode
    }
    lines.push(line)
    at = next
  }
  return lines
}

function classify(line: Line, text: string, content: string, before: Line | undefined): void {
  const { start, end } = line
  const number = matchAt(NUMBER, text, start)
  if (number && number.end <= end) {
    const [, open, digits, style, close] = number.match
    line.kind = 'item'
    line.item = { style: style as ItemStyle, number: Number(digits), content: number.end }
    if (open && !close) line.item.open = open
    return
  }
  if (RULE.test(content)) {
    line.kind = 'rule'
    return
  }
  const bullet = matchAt(BULLET, text, start)
  if (bullet && bullet.end <= end) {
    line.kind = 'item'
    line.item = { style: bullet.match[1] as ItemStyle, content: bullet.end }
    return
  }
  const heading = matchAt(HEADING, text, start)
  if (heading && line.indent < 4) {
    line.kind = 'heading'
    line.level = heading.match[1]?.length ?? 1
  } else if (content.startsWith('|') || content.startsWith('>')) {
    line.kind = 'opaque'
  } else if (before?.kind !== 'text' && line.indent < 2 && isBoldLine(content)) {
    line.kind = 'heading'
    line.level = BOLD_LINE_LEVEL
  }
}

/** A line that is one bold phrase, as models write headings: `**Ingredients**`, `**Ingredients:**`, `**Ingredients**:`. */
function isBoldLine(content: string): boolean {
  if (content.length > MAX_BOLD_LINE) return false
  const run = content.slice(0, 2)
  if (run !== '**' && run !== '__') return false
  const inside = content.endsWith(':') ? content.slice(2, -1) : content.slice(2)
  return inside.length > 2 && inside.indexOf(run) === inside.length - 2 && /[^\s*_]/.test(inside)
}

function columns(text: string, from: number, to: number): number {
  let columns = 0
  for (let at = from; at < to; at++) columns = text[at] === '\t' ? (columns | 3) + 1 : columns + 1
  return columns
}

/** Moves `end` left over white space, not further than `from`. */
export function trimmedEnd(text: string, from: number, end: number): number {
  let at = end
  while (at > from && isSpace(text.charCodeAt(at - 1))) at -= 1
  return at
}

/** Whether a UTF-16 unit is white space, as in trim() and \s. */
export function isSpace(unit: number): boolean {
  if (unit === 0x20 || (unit >= 9 && unit <= 13)) return true
  return unit >= 0xa0 && /\s/.test(String.fromCharCode(unit))
}

function matchAt(
  pattern: RegExp,
  text: string,
  at: number,
): { match: RegExpExecArray; end: number } | undefined {
  pattern.lastIndex = at
  const match = pattern.exec(text)
  return match ? { match, end: pattern.lastIndex } : undefined
}
