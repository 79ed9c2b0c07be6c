import type { ErrorCode } from '../../shared/errors.ts'
import type { FinishReason } from '../../shared/protocol/events.ts'
import type { CallContext } from '../../shared/protocol/node.ts'

/** What became of one request, for figures, log and trace. What was asked and answered is not in here. */
export interface RequestRecord {
  readonly stream: string
  readonly callContext: CallContext | undefined
  /** Another gpu node began it. */
  readonly moved: boolean
  readonly outcome: FinishReason
  readonly promptTokens: number
  /** Of these, found in the prefix cache. */
  readonly cachedPromptTokens: number
  /** Of all branches, those of earlier gpu nodes included. */
  readonly completionTokens: number
  readonly branches: number
  /** Times in ms, as of performance.now(). When it came. */
  readonly beganAt: number
  /** The first token that was decoded here; undefined when there was none. */
  readonly firstTokenAt: number | undefined
  readonly endedAt: number
}

export interface RequestObserver {
  /** The first token that is decoded here, so many ms after the request came. Once per request, or never. */
  begun?(ms: number): void
  /** A branch got `tokens` more, one every `ms` on average. Once per branch and delivery: it has to be cheap. */
  paced?(ms: number, tokens: number): void
  ended?(record: RequestRecord): void
  /** The request did not begin. */
  refused?(code: ErrorCode): void
  /** What happened to the request should not be possible. */
  bug?(stream: string, thrown: unknown): void
}

type Known = Pick<RequestRecord, 'stream' | 'callContext' | 'moved' | 'promptTokens' | 'beganAt'>
type Outcome = Pick<RequestRecord, 'outcome' | 'cachedPromptTokens' | 'completionTokens' | 'branches'>

/** Keeps the times of one request. */
export class RequestWatch {
  readonly #observers: readonly RequestObserver[]
  readonly #known: Known
  /** Of each branch: tokens so far, and when the last of them came here. */
  readonly #paces = new Map<number, { tokens: number; at: number | undefined }>()
  #firstTokenAt: number | undefined

  constructor(observers: readonly RequestObserver[], known: Known) {
    this.#observers = observers
    this.#known = known
  }

  /** A branch comes with `tokens` that another gpu node decoded. */
  restored(branch: number, tokens: number): void {
    this.#paces.set(branch, { tokens, at: undefined })
  }

  /** A branch has `tokens` now. How those that came first in one delivery were spaced, nobody knows. */
  progress(branch: number, tokens: number): void {
    const pace = this.#paces.get(branch)
    const more = tokens - (pace?.tokens ?? 0)
    if (more === 0) return
    const at = performance.now()
    if (this.#firstTokenAt === undefined) this.#begin(at)
    if (!pace) {
      this.#paces.set(branch, { tokens, at })
      return
    }
    if (pace.at !== undefined) {
      for (const observer of this.#observers) observer.paced?.((at - pace.at) / more, more)
    }
    pace.tokens = tokens
    pace.at = at
  }

  #begin(at: number): void {
    this.#firstTokenAt = at
    for (const observer of this.#observers) observer.begun?.(at - this.#known.beganAt)
  }

  end(outcome: Outcome): void {
    const endedAt = performance.now()
    const firstTokenAt = this.#firstTokenAt
    const record = { ...this.#known, ...outcome, firstTokenAt, endedAt }
    for (const observer of this.#observers) observer.ended?.(record)
  }
}
