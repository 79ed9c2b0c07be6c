import type { Fork } from './forks.ts'
import type { Line } from './lines.ts'
import type { Profile } from './profile.ts'
import { firstSentenceEnd } from './sentences.ts'
import type { Rule } from './structure.ts'

const MIN_PARAGRAPHS = 3

/**
 * The forks of an answer without lists and sections that fork: each paragraph is split after its first sentence, and
 * the rest becomes a branch. A paragraph stays whole when it has a list, a heading, a table or a quotation, or when
 * one of the two pieces would be short.
 */
export function paragraphForks(
  text: string,
  lines: readonly Line[],
  { minPiece, minItems }: Profile,
): Fork[] | { rule: Rule; keep: boolean } {
  const forks: Fork[] = []
  let paragraphs = 0
  for (let at = 0; at < lines.length; ) {
    let end = at
    while (end < lines.length && lines[end]?.kind !== 'blank') end += 1
    const first = lines[at]
    const last = lines[end - 1]
    if (end > at && first && last) {
      paragraphs += 1
      const splits = last.end - first.start > 2 * minPiece && isProse(text, lines, at, end)
      const cut = splits ? firstSentenceEnd(text, first.start, last.end) : last.end
      // Verse is cut at the ends of its lines.
      const insideLine = cut < first.end
      if (
        insideLine &&
        cut - first.start >= minPiece &&
        text.slice(cut, last.end).trimStart().length >= minPiece
      ) {
        forks.push({ kind: 'paragraphs', cut, end: last.end, inner: [] })
      }
    }
    at = end + 1
  }
  if (paragraphs < MIN_PARAGRAPHS) return { rule: 'no_structure', keep: true }
  if (forks.length >= minItems) return forks
  // With few such paragraphs the text is of another kind; with many it is too close to text that forks.
  return { rule: 'paragraphs_too_few_forks', keep: forks.length * 2 < paragraphs }
}

/** Text lines that do not introduce what follows. */
function isProse(text: string, lines: readonly Line[], from: number, to: number): boolean {
  for (let at = from; at < to; at++) if (lines[at]?.kind !== 'text') return false
  return !/[:：]/.test(text[(lines[to - 1]?.end ?? 0) - 1] ?? '')
}
