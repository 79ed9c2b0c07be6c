import { chatStretches, promptText } from '../chat.ts'
import type { Turn } from '../conversation.ts'
import type { Row } from '../rows.ts'
import { CHILD } from '../rows.ts'
import { EOS } from '../tokenizer/convert.ts'
import type { Encoder } from '../tokenizer/encode.ts'

/** The label of a token that is not learned; PyTorch's cross-entropy ignores it. */
export const MASKED = -100

/** One training sequence. `labels[i]` is `ids[i]` or MASKED (Hugging Face's habit: the model shifts them). */
export interface Sequence {
  ids: number[]
  labels: number[]
}

/** The prompt is masked; in a branch row everything through the last [Child] is masked too. */
export function rowSequence(row: Row, encoder: Encoder): Sequence {
  const childAt = row.target.lastIndexOf(CHILD)
  const own = childAt === -1 ? 0 : childAt + CHILD.length
  return joined(encoder, [
    { text: promptText(row.input), learned: false },
    { text: row.target.slice(0, own), learned: false },
    { text: row.target.slice(own) + EOS, learned: true },
  ])
}

/** All turns of an unstructured conversation; every prompt is masked. */
export function turnsSequence(turns: readonly Turn[], encoder: Encoder): Sequence {
  return joined(encoder, chatStretches(turns))
}

function joined(encoder: Encoder, stretches: readonly { text: string; learned: boolean }[]): Sequence {
  const sequence: Sequence = { ids: [], labels: [] }
  for (const { text, learned } of stretches) {
    if (text === '') continue
    for (const id of encoder.encode(text)) {
      sequence.ids.push(id)
      sequence.labels.push(learned ? id : MASKED)
    }
  }
  return sequence
}
