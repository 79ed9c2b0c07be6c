import type { Extraction, Part } from './structure.ts'

const MIN_PARAGRAPHS = 3
const MIN_FORKS = 3
const MIN_PIECE_CHARACTERS = 20
const ABBREVIATION = /\b(mr|mrs|dr)\./i

/**
 * Extracts paragraphs: each is split after its first sentence (`. ` or the CJK full stop), and the rest becomes a
 * branch. A paragraph stays whole in the main text when one of the two pieces would be shorter than 20
 * characters.
 */
export function extractParagraphs(answer: string): Extraction {
  if (ABBREVIATION.test(answer)) return { rule: 'paragraphs_abbreviation', keep: false }
  // Separators are kept (odd entries), so that the joined pieces equal the answer.
  const pieces = answer.split(/(\n\s*\n)/)
  if (pieces.filter((piece) => piece.trim() !== '').length < MIN_PARAGRAPHS)
    return { rule: 'paragraphs_too_few', keep: true }

  const parts: Part[] = []
  let pending = ''
  for (const piece of pieces) {
    const cut = firstSentenceEnd(piece)
    const rest = piece.slice(cut).trimEnd()
    const splits =
      piece.slice(0, cut).trim().length >= MIN_PIECE_CHARACTERS && rest.trim().length >= MIN_PIECE_CHARACTERS
    if (!splits) {
      pending += piece
      continue
    }
    parts.push({ text: pending + piece.slice(0, cut), detail: [{ text: rest }] })
    pending = piece.slice(cut + rest.length)
  }
  if (parts.length < MIN_FORKS) return { rule: 'paragraphs_too_few_forks', keep: false }
  if (pending !== '') parts.push({ text: pending })
  return { structure: { kind: 'paragraphs', parts } }
}

/** The position after the first sentence's full stop; the paragraph's length when there is none before its end. */
function firstSentenceEnd(paragraph: string): number {
  const match = /\.(?= )|。/.exec(paragraph)
  return match ? match.index + 1 : paragraph.length
}
