/** Text as Python sees it, where JavaScript differs: white space, digits, lengths in code points, JSON. */

/** Python's white space, of str.strip() and of \s: it has \x1c to \x1f and \x85, and no byte order mark. */
export function isSpace(unit: number): boolean {
  if (unit < 0x80) return (unit >= 9 && unit <= 13) || (unit >= 0x1c && unit <= 0x20)
  if (unit === 0x85 || unit === 0xa0 || unit === 0x1680) return true
  if (unit < 0x2000 || unit > 0x3000) return false
  return unit <= 0x200a || [0x2028, 0x2029, 0x202f, 0x205f, 0x3000].includes(unit)
}

export function strip(text: string): string {
  let from = 0
  while (from < text.length && isSpace(text.charCodeAt(from))) from += 1
  return stripEnd(text.slice(from))
}

export function stripEnd(text: string): string {
  let end = text.length
  while (end > 0 && isSpace(text.charCodeAt(end - 1))) end -= 1
  return text.slice(0, end)
}

export function stripNewlinesAtEnd(text: string): string {
  let end = text.length
  while (end > 0 && text[end - 1] === '\n') end -= 1
  return text.slice(0, end)
}

/** Whether a text has at least `count` code points. */
export function hasLength(text: string, count: number): boolean {
  if (text.length >= 2 * count) return true
  let points = 0
  for (const _ of text) points += 1
  return points >= count
}

/** A number with a full stop and white space behind it: `\d+\.\s`. */
export interface NumberMark {
  /** Offset of its first digit. */
  from: number
  /** Offset of its full stop. */
  dot: number
}

/** All numbers with a full stop and white space behind them, in linear time. */
export function numberMarks(text: string): NumberMark[] {
  const marks: NumberMark[] = []
  for (let dot = text.indexOf('.'); dot !== -1; dot = text.indexOf('.', dot + 1)) {
    if (!isSpace(text.charCodeAt(dot + 1))) continue
    let from = dot
    for (let width = digitBefore(text, from); width > 0; width = digitBefore(text, from)) from -= width
    if (from < dot) marks.push({ from, dot })
  }
  return marks
}

/** The width of the digit (of any script, as \d) that ends at an offset; 0 when there is none. */
function digitBefore(text: string, at: number): number {
  const unit = text.charCodeAt(at - 1)
  if (unit < 0x80) return unit >= 0x30 && unit <= 0x39 ? 1 : 0
  const width = unit >= 0xdc00 && unit <= 0xdfff ? 2 : 1
  return at >= width && /^\p{Nd}$/u.test(text.slice(at - width, at)) ? width : 0
}

/** The text of a file written by json.dump(values, indent=4), in pieces. */
export function* jsonArray(values: Iterable<unknown>, ascii: boolean): Generator<string> {
  let count = 0
  for (const value of values) {
    const json = JSON.stringify(value, null, 4).replaceAll('\n', '\n    ')
    yield `${count === 0 ? '[' : ','}\n    ${ascii ? escapedToAscii(json) : json}`
    count += 1
  }
  yield count === 0 ? '[]' : '\n]'
}

function escapedToAscii(json: string): string {
  return json.replace(/[^\n -~]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`)
}
