import type { Extraction, Part } from './structure.ts'

const MIN_ITEMS = 3
const MIN_DETAIL_CHARACTERS = 10
const ITEM = /^(\d+)\. [^:：\n]+[:：]/gm

interface Item {
  number: number
  /** Offsets of the line and of its detail (right after the colon). */
  start: number
  detail: number
}

/**
 * Extracts an ordered list with items `N. title: detail` (ASCII or full-width colon). The main text keeps `N.
 * title:`, the detail becomes a branch. A detail ends at the next item. The last item must be one line, followed
 * by a blank line or the end: otherwise the end of the list would be ambiguous.
 * @returns undefined when the answer has no item.
 */
export function extractList(answer: string): Extraction | undefined {
  const items = findItems(answer)
  const last = items.at(-1)
  if (!last) return undefined
  if (items.length < MIN_ITEMS) return { rule: 'list_too_short', keep: false }
  const first = items[0]?.number ?? 0
  if (items.some((item, index) => item.number !== first + index)) return { rule: 'list_numbering', keep: false }

  const lastEnd = lineEnd(answer, last.detail)
  const ends = [...items.slice(1).map((next) => trimmedEnd(answer, next.start)), lastEnd]
  const parts: Part[] = []
  let from = 0
  for (const [index, item] of items.entries()) {
    const end = ends[index] ?? lastEnd
    const detail = answer.slice(item.detail, end)
    if (detail.trim().length < MIN_DETAIL_CHARACTERS) return { rule: 'list_detail_too_short', keep: false }
    if (/\n\s*\d+\. /.test(detail)) return { rule: 'list_nested', keep: false }
    parts.push({ text: answer.slice(from, item.detail), detail: [{ text: detail }] })
    from = end
  }
  const after = answer.slice(from)
  if (/^\s+\d+\. /.test(after)) return { rule: 'list_nested', keep: false }
  if (after.trim() !== '' && !/^\n[ \t]*\n/.test(after)) return { rule: 'list_not_closed', keep: false }
  if (after !== '') parts.push({ text: after })
  return { structure: { kind: 'list', parts } }
}

function findItems(answer: string): Item[] {
  return [...answer.matchAll(ITEM)].map((match) => ({
    number: Number(match[1]),
    start: match.index,
    detail: match.index + match[0].length,
  }))
}

function lineEnd(text: string, from: number): number {
  const newline = text.indexOf('\n', from)
  return newline === -1 ? text.length : newline
}

/** Moves `end` left over white space: line breaks between two items belong to the main text. */
function trimmedEnd(text: string, end: number): number {
  return text.slice(0, end).trimEnd().length
}
