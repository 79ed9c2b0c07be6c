import type { ErrorCode } from '../../shared/errors.ts'
import type { FinishReason } from '../../shared/protocol/events.ts'
import type { CallContext } from '../../shared/protocol/node.ts'
import type { SpeculationUsage } from '../../shared/protocol/speculation.ts'

/** The result of one request, for metrics, log and trace. Contains no prompt and no answer. */
export interface RequestRecord {
  readonly stream: string
  readonly callContext: CallContext | undefined
  /** `Tenant.id` of the request, if the edge named one. */
  readonly tenant?: string | undefined
  /** The stream was started on another gpu node and moved here. */
  readonly moved: boolean
  readonly outcome: FinishReason
  readonly promptTokens: number
  /** Prompt tokens found in the prefix cache. */
  readonly cachedPromptTokens: number
  /** Tokens of all branches, including those decoded on earlier gpu nodes. */
  readonly completionTokens: number
  readonly branches: number
  /** As in usage: undefined when no token was drafted. */
  readonly speculation?: SpeculationUsage | undefined
  /** Arrival of the request. All times are in ms of performance.now(). */
  readonly arrivedAt: number
  /** When the first token was decoded on this node; undefined when there was none. */
  readonly firstTokenAt: number | undefined
  readonly endedAt: number
}

export interface RequestObserver {
  /** The first token was decoded on this node, `ms` after the request arrived. At most once per request. */
  timeToFirstToken?(ms: number, tenant: string | undefined): void
  /**
   * A branch got `tokens` more tokens, on average `ms` apart. Called per branch and delivery of events: must be
   * cheap.
   */
  interTokenLatency?(ms: number, tokens: number): void
  ended?(record: RequestRecord): void
  /** The request was refused before it started. */
  refused?(code: ErrorCode): void
  /** An unexpected exception while handling the request. */
  bug?(stream: string, thrown: unknown): void
}

type KnownAtStart = Pick<
  RequestRecord,
  'stream' | 'callContext' | 'tenant' | 'moved' | 'promptTokens' | 'arrivedAt'
>
type Outcome = Pick<
  RequestRecord,
  'outcome' | 'cachedPromptTokens' | 'completionTokens' | 'branches' | 'speculation'
>

/** Measures the times of one request and reports them to the observers. */
export class RequestWatch {
  readonly #observers: readonly RequestObserver[]
  readonly #knownAtStart: KnownAtStart
  /** Per branch: tokens so far, and when the last of them was decoded on this node. */
  readonly #progress = new Map<number, { tokens: number; at: number | undefined }>()
  #firstTokenAt: number | undefined

  constructor(observers: readonly RequestObserver[], knownAtStart: KnownAtStart) {
    this.#observers = observers
    this.#knownAtStart = knownAtStart
  }

  /** A branch starts with `tokens` tokens that another gpu node decoded. */
  restored(branch: number, tokens: number): void {
    this.#progress.set(branch, { tokens, at: undefined })
  }

  /**
   * A branch has `tokens` tokens now. The times between the tokens of its first delivery are unknown and not
   * reported.
   */
  progress(branch: number, tokens: number): void {
    const known = this.#progress.get(branch)
    const more = tokens - (known?.tokens ?? 0)
    if (more === 0) return
    const at = performance.now()
    if (this.#firstTokenAt === undefined) this.#onFirstToken(at)
    if (!known) {
      this.#progress.set(branch, { tokens, at })
      return
    }
    if (known.at !== undefined) {
      for (const observer of this.#observers) observer.interTokenLatency?.((at - known.at) / more, more)
    }
    known.tokens = tokens
    known.at = at
  }

  #onFirstToken(at: number): void {
    this.#firstTokenAt = at
    const { arrivedAt, tenant } = this.#knownAtStart
    for (const observer of this.#observers) observer.timeToFirstToken?.(at - arrivedAt, tenant)
  }

  end(outcome: Outcome): void {
    const endedAt = performance.now()
    const firstTokenAt = this.#firstTokenAt
    const record = { ...this.#knownAtStart, ...outcome, firstTokenAt, endedAt }
    for (const observer of this.#observers) observer.ended?.(record)
  }
}
