import type { AparError } from '../../shared/errors.ts'
import type { FinishReason, StreamEvent } from '../../shared/protocol/events.ts'
import { FINISH } from '../engine/engine-events.ts'

/** A StreamEvent before it gets its number. */
export type Unnumbered<E> = E extends StreamEvent ? Omit<E, 'seq'> : never

/** What the engine's reasons are called in events. */
export const REASONS: Record<number, FinishReason> = {
  [FINISH.STOP]: 'stop',
  [FINISH.LENGTH]: 'length',
  [FINISH.ABORT]: 'abort',
  [FINISH.ERROR]: 'error',
  [FINISH.NOT_FINITE]: 'error',
  [FINISH.UNMATCHED]: 'error',
}

/** The only event of a request that was refused before it started. */
export function refusalEvent(error: AparError): StreamEvent {
  return { ...toErrorEvent(error), seq: 0 }
}

export function engineError(code: number, failure: string | undefined): Unnumbered<StreamEvent> {
  const error = { type: 'error', code: 'engine_error', param: null } as const
  if (code === FINISH.NOT_FINITE) {
    const message =
      'the logits are not finite: the weights, or the sampling parameters, cannot be computed with'
    return { ...error, message, retry: false }
  }
  if (code === FINISH.UNMATCHED) {
    const message = 'no token of the model goes on with the answer as its format demands'
    return { ...error, message, retry: false }
  }
  return { ...error, message: `the engine failed: ${failure ?? 'no memory was left'}` }
}

export function toErrorEvent(error: AparError): Unnumbered<StreamEvent> {
  return { type: 'error', code: error.code, message: error.message, param: error.param ?? null }
}
