import { OrderedText, type Piece } from '../../../shared/branch-tree.ts'
import { AparError } from '../../../shared/errors.ts'
import type { FinishReason } from '../../../shared/openai.ts'
import type { AcceptedEvent, StreamEvent, TokenLogprob, Usage } from '../../../shared/protocol/events.ts'

/** Text that has its final place, and the log-probabilities of the tokens that begin in it. */
export interface Growth {
  readonly text: string
  readonly logprobs: readonly TokenLogprob[]
}

/** One choice of an answer: a stream's text in document order. Feed it every event that follows `accepted`. */
export class Choice {
  readonly #ordered: OrderedText
  /** Per branch, those whose text has not found its place yet; in order of `at`. */
  readonly #waiting = new Map<number, TokenLogprob[]>()
  #finishReason: FinishReason = 'stop'
  #usage: Usage | undefined

  constructor(accepted: AcceptedEvent) {
    this.#ordered = new OrderedText(accepted.joints)
  }

  /**
   * What this event made final; often nothing.
   * @throws AparError for the event of a failed stream.
   */
  push(event: StreamEvent): Growth {
    if (event.type === 'error') throw streamError(event)
    if (event.type === 'delta' && event.logprobs) this.#keep(event.branch, event.logprobs)
    const pieces = this.#ordered.pushPieces(event)
    if (event.type === 'done') {
      const root = this.#ordered.tree.branch(0)?.reason
      this.#finishReason = event.reason === 'length' || root === 'length' ? 'length' : 'stop'
      this.#usage = event.usage
    }
    return {
      text: pieces.map(({ text }) => text).join(''),
      logprobs: pieces.flatMap((piece) => this.#logprobsIn(piece)),
    }
  }

  /** Valid after `done`. */
  get finishReason(): FinishReason {
    return this.#finishReason
  }

  /** @throws AparError before `done`: nobody reads on once the client has left. */
  get usage(): Usage {
    if (!this.#usage) throw new AparError('gpu_node_lost', 'the stream was cut before its end')
    return this.#usage
  }

  #keep(branch: number, logprobs: readonly TokenLogprob[]): void {
    const waiting = this.#waiting.get(branch)
    if (waiting) waiting.push(...logprobs)
    else this.#waiting.set(branch, [...logprobs])
  }

  #logprobsIn({ branch, to }: Piece): TokenLogprob[] {
    const waiting = this.#waiting.get(branch) ?? []
    const later = waiting.findIndex(({ at }) => at >= to)
    return waiting.splice(0, later === -1 ? waiting.length : later)
  }
}

/** An `error` event as what it was before it became one. */
export function streamError({ code, message, param }: StreamEvent & { type: 'error' }): AparError {
  return new AparError(code, message, { param: param ?? undefined })
}
