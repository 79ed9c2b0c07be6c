import { chatSegments, promptText } from '../chat.ts'
import type { Turn } from '../conversation.ts'
import type { Row } from '../rows.ts'
import { CHILD } from '../rows.ts'
import { EOS } from '../tokenizer/convert.ts'
import type { Encoder } from '../tokenizer/encode.ts'

/** Label of a token outside the loss; the default ignore_index of PyTorch's cross-entropy. */
export const MASKED = -100

/**
 * One training sequence. `labels[i]` is `ids[i]` or MASKED (Hugging Face's convention: the model shifts the
 * labels).
 */
export interface Sequence {
  ids: number[]
  labels: number[]
}

/** Masks the prompt; in a branch row, everything up to and including the last [Child]. */
export function rowSequence(row: Row, encoder: Encoder): Sequence {
  const childAt = row.target.lastIndexOf(CHILD)
  const own = childAt === -1 ? 0 : childAt + CHILD.length
  return joined(encoder, [
    { text: promptText(row.input), learned: false },
    { text: row.target.slice(0, own), learned: false },
    { text: row.target.slice(own) + EOS, learned: true },
  ])
}

/** All turns of an unstructured conversation, with every prompt masked. */
export function turnsSequence(turns: readonly Turn[], encoder: Encoder): Sequence {
  return joined(encoder, chatSegments(turns))
}

function joined(encoder: Encoder, segments: readonly { text: string; learned: boolean }[]): Sequence {
  const sequence: Sequence = { ids: [], labels: [] }
  for (const { text, learned } of segments) {
    if (text === '') continue
    for (const id of encoder.encode(text)) {
      sequence.ids.push(id)
      sequence.labels.push(learned ? id : MASKED)
    }
  }
  return sequence
}
