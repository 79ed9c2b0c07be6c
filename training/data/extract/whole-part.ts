import { type Line, linesOf } from './lines.ts'
import { endsSentence } from './sentences.ts'
import { titleEnd } from './titles.ts'

/** Fewest characters of an answer. */
const MIN_ANSWER = 80
/** Fewest letters and digits of what counts as said again. */
const MIN_SAID = 12
/** A list that goes on to where its answer was cut off would have gone on for ever: it ends behind this item. */
const MAX_ITEMS = 8
/** This many sentences may begin with the same words. */
const MAX_SAME_OPENING = 2
const OPENING_WORDS = 5
const SEGMENTER = new Intl.Segmenter('en', { granularity: 'sentence' })

/**
 * The part of an answer that was cut off, or goes round in circles, which can stand as an answer of its own: up to the
 * item or sentence that says again what was said before, up to the eighth item of a list, or up to the last whole
 * sentence.
 * @returns undefined when too little is left, or where code would be cut.
 */
export function wholePart(answer: string): string | undefined {
  const lines = linesOf(answer)
  if (lines.some(({ code }) => code)) return undefined
  const cut = repeatAt(answer, lines) ?? answer.length
  const kept = withoutLooseEnd(answer, lines, cut)
  return kept.length >= MIN_ANSWER ? kept : undefined
}

/** Where an answer begins to say again what it has said, or a list to be too long. */
function repeatAt(answer: string, lines: readonly Line[]): number | undefined {
  const said = new Set<string>()
  const openings = new Map<string, number>()
  let items = 0
  for (const line of lines) {
    if (line.kind === 'blank') continue
    if (line.item?.number !== undefined && ++items > MAX_ITEMS) return line.start
    if (line.kind === 'heading') items = 0
    const detail = titleEnd(answer, line)
    if (detail !== undefined && isSaidAgain(`title ${bare(answer.slice(line.item?.content, detail))}`, said))
      return line.start
    const from = detail ?? line.item?.content ?? line.start
    for (const { segment, index } of SEGMENTER.segment(answer.slice(from, line.end))) {
      const words = bare(segment)
      const opening = words.split(' ', OPENING_WORDS).join(' ')
      const times = (openings.get(opening) ?? 0) + 1
      openings.set(opening, times)
      const isLong = words.length >= MIN_SAID
      if (isLong && (isSaidAgain(words, said) || times > MAX_SAME_OPENING))
        return line.item || index === 0 ? line.start : from + index
    }
  }
  return undefined
}

function isSaidAgain(words: string, said: Set<string>): boolean {
  if (said.has(words)) return true
  said.add(words)
  return false
}

/** Words and numbers without marks and case. */
function bare(text: string): string {
  return (text.toLowerCase().match(/[\p{L}\p{M}\p{N}']+/gu) ?? []).join(' ')
}

/** The text before `cut`, without a sentence, a title or an introduction that nothing follows. */
function withoutLooseEnd(answer: string, lines: readonly Line[], cut: number): string {
  for (const line of lines.toReversed()) {
    if (line.start >= cut || line.kind === 'blank') continue
    const end =
      line.kind === 'text' || line.item ? lastSentenceEnd(answer, line, Math.min(line.end, cut)) : undefined
    if (end !== undefined) return answer.slice(0, end)
  }
  return ''
}

/** Behind the last whole sentence of a line before `cut`. */
function lastSentenceEnd(answer: string, line: Line, cut: number): number | undefined {
  const from = titleEnd(answer, line) ?? line.item?.content ?? line.start
  let end: number | undefined
  for (const { segment, index } of SEGMENTER.segment(answer.slice(from, cut))) {
    const at = from + index + segment.trimEnd().length
    if (endsSentence(answer, at)) end = at
  }
  return end
}
