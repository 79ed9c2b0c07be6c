import { isSpace, type Line } from './lines.ts'
import { endsSentence } from './sentences.ts'

/** Longest title of an item; a longer one is a sentence, and a fork behind it would gain little. */
const MAX_TITLE = 120
const DASHES = new Set('-–—')
const CLOSERS: Readonly<Record<string, string>> = {
  '(': ')',
  '[': ']',
  '"': '"',
  '“': '”',
  '「': '」',
  '《': '》',
}
/** How a detail begins behind a bold title without a delimiter. */
const SENTENCE_START = /^\s+["“(']?[\p{Lu}\p{Lo}\p{N}]/u

/**
 * Where an item's title ends and its detail begins: behind `Title:`, `**Title:**`, `**Title**:`, `Title -` (also with
 * another dash) or `**Title**`, on the item's first line. The offset is never inside of emphasis, code, a bracket or
 * a quotation.
 * @returns undefined when the line has no title; the line's end when it is nothing but a title.
 */
export function titleEnd(text: string, line: Line): number | undefined {
  const { item, end } = line
  if (!item) return undefined
  const open: string[] = item.open ? [item.open] : []
  let boldEnd: number | undefined
  for (let at = item.content; at < end && at - item.content <= MAX_TITLE; ) {
    const char = text[at] ?? ''
    const closer = CLOSERS[char]
    if (char === '\\') {
      at += 2
    } else if (char === '`') {
      at = afterCode(text, at, end)
    } else if (closer) {
      at = afterClosing(text, at, end, char, closer)
      if (char === '[' && text[at - 1] === ']' && text[at] === '(') at = afterClosing(text, at, end, '(', ')')
    } else if (char === '*' || char === '_') {
      const run = runAt(text, at)
      const after = at + run.length
      if (open.at(-1) === run && !isSpaceAt(text, at - 1)) {
        open.pop()
        if (open.length === 0) {
          const last = text[at - 1] ?? ''
          if (last === ':' || last === '：') return after
          if (run.length >= 2 && boldEnd === undefined && startsBold(text, line, run)) {
            if (endsSentence(text, at)) return after
            boldEnd = after
          }
        }
      } else if (after < end && !isSpaceAt(text, after) && !isInsideWord(text, at, after)) {
        open.push(run)
      }
      at = after
    } else {
      if (open.length === 0 && at > item.content) {
        if (char === '：' || (char === ':' && isDelimiter(text, at, end)))
          return titled(text, item.content, at)
        if (DASHES.has(char) && isDash(text, at, boldEnd)) return titled(text, item.content, at)
      }
      if (isSpaceAt(text, at + 1) && endsSentence(text, at + 1)) break
      if ('。！？'.includes(char)) break
      at += 1
    }
  }
  if (boldEnd === undefined) return undefined
  return boldEnd === end || SENTENCE_START.test(text.slice(boldEnd, boldEnd + 8)) ? boldEnd : undefined
}

/** Behind the delimiter, when the text before it has a letter or a digit. */
function titled(text: string, content: number, delimiter: number): number | undefined {
  return /[\p{L}\p{N}]/u.test(text.slice(content, delimiter)) ? delimiter + 1 : undefined
}

/** A colon inside of 10:30, http:// or std::vector delimits nothing. */
function isDelimiter(text: string, at: number, end: number): boolean {
  return at + 1 === end || isSpaceAt(text, at + 1)
}

/** ` - ` between words, or a dash right behind a bold title. */
function isDash(text: string, at: number, boldEnd: number | undefined): boolean {
  if (at === boldEnd) return text[at] !== '-' || isSpaceAt(text, at + 1)
  return isSpaceAt(text, at - 1) && isSpaceAt(text, at + 1)
}

function startsBold(text: string, { item }: Line, run: string): boolean {
  return item !== undefined && (item.open === run || text.startsWith(run, item.content))
}

function runAt(text: string, at: number): string {
  let end = at + 1
  while (end - at < 3 && text[end] === text[at]) end += 1
  return text.slice(at, end)
}

/** The _ of a name such as max_depth is not emphasis; neither is the * of 2*3. */
function isInsideWord(text: string, from: number, to: number): boolean {
  return to - from === 1 && /[\p{L}\p{N}]/u.test(text[from - 1] ?? '') && /[\p{L}\p{N}]/u.test(text[to] ?? '')
}

function afterCode(text: string, at: number, end: number): number {
  let open = at
  while (text[open] === '`') open += 1
  const run = text.slice(at, open)
  const close = text.slice(open, Math.min(end, open + MAX_TITLE)).indexOf(run)
  return close === -1 ? open : open + close + run.length
}

/** Behind the bracket or quotation mark that closes the one at `at`; behind that one when nothing closes it. */
function afterClosing(text: string, at: number, end: number, opener: string, closer: string): number {
  let depth = 0
  for (let index = at; index < end && index - at <= MAX_TITLE; index++) {
    if (text[index] === closer && (opener !== closer || index > at)) depth -= 1
    else if (text[index] === opener) depth += 1
    if (depth === 0) return index + 1
  }
  return at + 1
}

function isSpaceAt(text: string, at: number): boolean {
  return isSpace(text.charCodeAt(at))
}
