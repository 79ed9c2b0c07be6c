import type { Rule } from '../structure.ts'
import { hasLength, isSpace, numberMarks, stripEnd, stripNewlinesAtEnd } from './python.ts'

/** What the reference makes of an answer that it splits. `response` has MASK where a stream was. */
export interface Split {
  response: string
  streams: string[]
  reassembled: string
}

export const MASK = '[SplitMask]'
const MIN_STREAMS = 3
const MIN_STREAM = 10
/**
 * The reference replaces each detail in the whole answer, so its time is details times length. An answer beyond this
 * many characters in all is refused (`too_long`); at the reference's usual details that is an answer of about 500 kB.
 */
export const MAX_REPLACED_CHARACTERS = 2_000_000_000

/**
 * Numbered lists `N. title: detail` by the reference's patterns, without their backtracking.
 * @returns undefined when the answer has no item before a later item
 */
export function splitList(answer: string): Split | { rule: Rule } | undefined {
  let response = `${answer}\n\n`
  const details = itemsBeforeItems(response)
  if (details.length === 0) return undefined
  if (details.length * response.length > MAX_REPLACED_CHARACTERS) return { rule: 'too_long' }
  const streams: string[] = []
  for (const detail of details) {
    // The reference looks at lengths at the end; the result is the same, and no short text is replaced everywhere.
    if (!hasLength(stripNewlinesAtEnd(detail), MIN_STREAM)) return { rule: 'list_detail_too_short' }
    streams.push(stripNewlinesAtEnd(detail))
    response = response.replaceAll(detail, `${MASK}\n`)
  }
  const closed = itemsBeforeBlankLines(response.slice(response.lastIndexOf(MASK) + 1))
  const [last] = closed
  if (last === undefined || closed.length > 1) return { rule: 'list_not_closed' }
  streams.push(stripNewlinesAtEnd(last))
  response = response.replaceAll(last, `${MASK}\n`)

  if (!hasLength(stripNewlinesAtEnd(last), MIN_STREAM)) return { rule: 'list_detail_too_short' }
  if (response.split(MASK).length - 1 !== streams.length) return { rule: 'list_repeated' }
  if (streams.length < MIN_STREAMS) return { rule: 'list_too_short' }
  if (streams.some(startsInnerItem)) return { rule: 'list_nested' }

  response = response.replace(/\[SplitMask\]\n(?!\n)/g, `${MASK}\n\n`)
  const [first = '', ...rest] = response.split(MASK)
  const reassembled = first + rest.map((text, index) => (streams[index] ?? '') + text).join('')
  return { response: stripEnd(response), streams, reassembled }
}

/** Details by `\s*(\d+\.)\s+([\s\S]+?)[:：]([\s\S]+?)(?=(?:\d+\.)\s+[\s\S]+?[:：])`: each ends before another item. */
function itemsBeforeItems(text: string): string[] {
  const marks = numberMarks(text)
  const lastColon = Math.max(text.lastIndexOf(':'), text.lastIndexOf('：'))
  let ahead = 0
  return items(text, marks, (from) => {
    while ((marks[ahead]?.dot ?? from + 1) <= from) ahead += 1
    const mark = marks[ahead]
    // White space and one more character stand between an item's full stop and its colon.
    if (!mark || lastColon < mark.dot + 3) return undefined
    const end = Math.max(mark.from, from)
    return { end, next: end }
  })
}

/** Details by `\s*(\d+\.)\s+([\s\S]+?)[:：]([\s\S]+?)\n\n`: each ends before a blank line. */
function itemsBeforeBlankLines(text: string): string[] {
  let found = 0 // -1: there is none
  return items(text, numberMarks(text), (from) => {
    if (found !== -1 && found < from) found = text.indexOf('\n\n', from)
    return found === -1 ? undefined : { end: found, next: found + 2 }
  })
}

/** `endOf(from)` says where a detail ends whose second character is at `from`; it is asked with rising offsets. */
function items(
  text: string,
  marks: readonly { dot: number }[],
  endOf: (from: number) => { end: number; next: number } | undefined,
): string[] {
  const details: string[] = []
  let next = 0
  let colon = -1
  for (const { dot } of marks) {
    if (dot <= next) continue
    let title = dot + 1
    while (title < text.length && isSpace(text.charCodeAt(title))) title += 1
    if (colon < title + 1) colon = nextColon(text, title + 1)
    // Backtracking: where no colon behind the first character will do, a title of one space, before a colon.
    const colons = dot + 2 < title && (text[title] === ':' || text[title] === '：') ? [title, colon] : [colon]
    for (const [detail, end] of colons
      .map((at) => [at + 1, endOf(secondCharacter(text, at + 1))] as const)
      .reverse()) {
      if (!end || detail > text.length) continue
      details.push(text.slice(detail, end.end))
      next = end.next
      break
    }
  }
  return details
}

function nextColon(text: string, from: number): number {
  for (let at = from; at < text.length; at++) if (text[at] === ':' || text[at] === '：') return at
  return Number.POSITIVE_INFINITY
}

function secondCharacter(text: string, at: number): number {
  if (at >= text.length) return text.length + 1
  return at + ((text.codePointAt(at) ?? 0) > 0xffff ? 2 : 1)
}

/** `\n\s*\d+\.\s+` */
function startsInnerItem(stream: string): boolean {
  return numberMarks(stream).some(({ from }) => {
    for (let at = from - 1; at >= 0 && isSpace(stream.charCodeAt(at)); at--)
      if (stream[at] === '\n') return true
    return false
  })
}
