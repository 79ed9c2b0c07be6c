import type { Turn } from '../../conversation.ts'
import type { Extraction, Part } from '../structure.ts'
import { isUnstructured, leftOutBy, parseTurn } from './dialogs.ts'
import { MASK } from './lists.ts'

/** The profile `reference` on one answer. Its parts are the reference's texts, with the white space as it mends it. */
export function referenceExtraction(answer: string): Extraction {
  const { turn, outcome } = parseTurn({ prompt: '', response: answer })
  if (!turn.forkable || 'rule' in outcome) {
    const rule = 'rule' in outcome ? outcome.rule : 'paragraphs_too_few'
    return { rule, keep: rule !== 'too_long' && isUnstructured(answer) }
  }
  const leftOut = leftOutBy(turn.reassembled_response)
  if (leftOut) return { rule: leftOut, keep: false }
  const texts = turn.response.split(MASK)
  // The reference stops with an error where an answer spells out its token.
  if (texts.length !== turn.streams.length + 1) return { rule: 'marker', keep: false }
  const parts = texts.map((text, index): Part => {
    const stream = turn.streams[index]
    return stream === undefined ? { text } : { text, detail: [{ text: stream }] }
  })
  if (parts.at(-1)?.text === '') parts.pop()
  return { structure: { kind: outcome.kind, parts } }
}

/** The same for a conversation: its first turn counts, but it is not unstructured when a later turn could fork. */
export function referenceConversation(turns: readonly Turn[]): Extraction {
  const [first, ...later] = turns
  if (!first) return { rule: 'no_turn', keep: false }
  const extraction = referenceExtraction(first.response)
  if ('structure' in extraction || !extraction.keep) return extraction
  return { ...extraction, keep: !later.some((turn) => parseTurn(turn).turn.forkable) }
}
