import type { AcceptedEvent } from '../../shared/protocol/events.ts'
import type { Call } from '../streams/http/choice.ts'
import type { AnswerPart } from '../streams/http/single-answer.ts'

/** An answer as far as it has come. */
export interface AnswerSoFar {
  readonly accepted: Pick<AcceptedEvent, 'stream'>
  readonly reasoning: string
  readonly text: string
  readonly calls: readonly Call[]
}

/** An answer that is read while it grows. */
export interface GrowingAnswer extends AnswerSoFar {
  parts(): AsyncGenerator<AnswerPart, void>
  /** Resolves when a gpu node has accepted the request, or the answer has ended. Absent: it has. */
  begun?(): Promise<void>
}
