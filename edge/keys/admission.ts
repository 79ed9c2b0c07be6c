import type { StreamEvent, Usage } from '../../shared/protocol/events.ts'
import { besideContents } from '../../shared/protocol/prompt-chars.ts'
import type { GenerateRequest } from '../../shared/protocol/request.ts'
import { utf8Length } from '../../shared/utf8.ts'
import type { Env } from '../env.ts'
import type { RateStatus, ReservationRequest, ReservationResult } from './budget/key-budget.ts'
import { limitError } from './budget/rates.ts'
import { limitsOf } from './key-limits.ts'
import { type Principal, requireModel } from './principal.ts'

/** A third of RESERVATION_MS: two renewals in a row may fail. */
const RENEW_MS = 20_000
/** Upper bound of what a chat template adds: control tokens and role names around each message. */
const TOKENS_AROUND_A_MESSAGE = 16
/** Typical of English; only used for streams that ended without a `done` event, which has the exact usage. */
const BYTES_PER_TOKEN = 4

/** Tokens and stream slots reserved in a key's limits. The worker may hand it over to a StreamSession. */
export interface Reservation {
  readonly id: string
  /** The prompt's tokens are counted with another reservation. */
  readonly promptCounted: boolean
}

/**
 * The reservation of one call, from its admission to the end of its last stream. The code that runs the streams passes
 * each of their events to `observe`, and calls `settle` at the end in every case, failures included.
 */
export class Admission {
  /** The requests to run. `max_tokens` is set where the key's tokens are limited. */
  readonly requests: readonly GenerateRequest[]
  /** What was left of the key's limits when the reservation was made; empty for an adopted reservation. */
  readonly rates: RateStatus
  readonly reservation: Reservation
  readonly #principal: Principal
  readonly #limits: ReturnType<typeof limitsOf>
  readonly #meters: readonly Meter[]
  readonly #renewal: ReturnType<typeof setInterval>

  private constructor(
    env: Env,
    principal: Principal,
    reservation: Reservation,
    requests: GenerateRequest[],
    rates: RateStatus = {},
  ) {
    this.requests = requests
    this.rates = rates
    this.#principal = principal
    this.#limits = limitsOf(env, principal.id)
    this.reservation = reservation
    this.#meters = requests.map((request) => new Meter(request))
    this.#renewal = setInterval(() => void this.#renew(), RENEW_MS)
  }

  /**
   * Reserves a stream slot per request and the most tokens that they may use.
   * `promptCounted`: another admission counts the same messages.
   * @throws AparError `model_not_allowed`, `too_many_streams`, `rate_limit_exceeded`, `insufficient_quota`
   */
  static async open(
    env: Env,
    principal: Principal,
    requests: readonly GenerateRequest[],
    { promptCounted = false } = {},
  ): Promise<Admission> {
    for (const { model } of requests) requireModel(principal, model)
    const reservation = newReservation(promptCounted)
    const wanted = reservationRequest(requests, reservation)
    const limits = limitsOf(env, principal.id)
    const { result, rates } = await limits.reserve(principal.limits, wanted)
    return Admission.fromResult(env, principal, requests, reservation, result, rates)
  }

  /** `result`: of the {@link reservationRequest} for `requests`. @throws AparError as `open`. */
  static fromResult(
    env: Env,
    principal: Principal,
    requests: readonly GenerateRequest[],
    reservation: Reservation,
    result: ReservationResult,
    rates: RateStatus,
  ): Admission {
    if (!result.granted) throw limitError(result.limit, result.retryAfterMs)
    const { newTokens } = result
    const each = newTokens === undefined ? undefined : Math.max(1, Math.floor(newTokens / requests.length))
    const bounded = requests.map((request) => {
      return request.max_tokens !== undefined || each === undefined
        ? request
        : { ...request, max_tokens: each }
    })
    return new Admission(env, principal, reservation, bounded, rates)
  }

  /** Takes over the reservation of an admission that has called `handOver`. */
  static adopt(
    env: Env,
    principal: Principal,
    reservation: Reservation,
    request: GenerateRequest,
  ): Admission {
    return new Admission(env, principal, reservation, [request])
  }

  /** Stops renewing. The code that runs the streams from now on has to `adopt` the reservation before it expires. */
  handOver(): Reservation {
    clearInterval(this.#renewal)
    return this.reservation
  }

  observe(event: StreamEvent, stream = 0): void {
    this.#meters[stream]?.observe(event)
  }

  async settle(): Promise<void> {
    clearInterval(this.#renewal)
    await this.#limits.settle(this.#principal.limits, this.reservation.id, this.#spent())
  }

  /** The prompt tokens of answers to the same messages count once, as in OpenAI's usage. */
  #spent(): Spent {
    const sum = { prompt_tokens: 0, cached_prompt_tokens: 0, completion_tokens: 0 }
    const { promptCounted } = this.reservation
    const seen = new Set<unknown>()
    for (const meter of this.#meters) {
      const spent = meter.spent()
      sum.completion_tokens += spent.completion_tokens
      if (promptCounted || spent.prompt_tokens === 0 || seen.has(meter.messages)) continue
      seen.add(meter.messages)
      sum.prompt_tokens += spent.prompt_tokens
      sum.cached_prompt_tokens += spent.cached_prompt_tokens
    }
    return sum
  }

  async #renew(): Promise<void> {
    const { prompt_tokens, completion_tokens } = this.#spent()
    const used = prompt_tokens + completion_tokens
    // The next renewal may succeed. If none does, the reservation expires.
    await this.#limits.renew(this.reservation.id, used).catch(() => {})
  }
}

type Spent = Pick<Usage, 'prompt_tokens' | 'cached_prompt_tokens' | 'completion_tokens'>

/** What one stream used: as the gpu node reports it, or without a report an estimate from the text that arrived. */
class Meter {
  readonly messages: GenerateRequest['messages']
  readonly #promptBytes: number
  #accepted = false
  #bytes = 0
  #usage: Spent | undefined

  constructor(request: GenerateRequest) {
    this.messages = request.messages
    this.#promptBytes = bytesOf(request) + (request.prompt_token_ids?.length ?? 0) * BYTES_PER_TOKEN
  }

  observe(event: StreamEvent): void {
    if (event.type === 'accepted') this.#accepted = true
    else if ('text' in event) this.#bytes += utf8Length(event.text)
    else if (event.type === 'done') this.#usage = event.usage
  }

  spent(): Spent {
    if (this.#usage) return this.#usage
    if (!this.#accepted) return { prompt_tokens: 0, cached_prompt_tokens: 0, completion_tokens: 0 }
    return {
      prompt_tokens: Math.ceil(this.#promptBytes / BYTES_PER_TOKEN),
      cached_prompt_tokens: 0,
      completion_tokens: Math.ceil(this.#bytes / BYTES_PER_TOKEN),
    }
  }
}

export function newReservation(promptCounted = false): Reservation {
  return { id: crypto.randomUUID(), promptCounted }
}

/** A stream slot per request and the most tokens that they may use. */
export function reservationRequest(
  requests: readonly GenerateRequest[],
  { id, promptCounted }: Reservation,
): ReservationRequest {
  return {
    id,
    streams: requests.length,
    promptTokens: promptCounted ? 0 : maxPromptTokens(requests),
    newTokens: sumOfMaxTokens(requests),
  }
}

/** undefined when a request has no `max_tokens`. */
function sumOfMaxTokens(requests: readonly GenerateRequest[]): number | undefined {
  return requests.reduce<number | undefined>((sum, { max_tokens }) => {
    return sum === undefined || max_tokens === undefined ? undefined : sum + max_tokens
  }, 0)
}

/**
 * An upper bound, since a token has at least one byte: a reservation always covers its prompts. Answers to the same
 * messages share the prompt.
 */
function maxPromptTokens(requests: readonly GenerateRequest[]): number {
  const prompts = new Map(requests.map((request) => [request.messages, request]))
  return [...prompts.values()].reduce((sum, { messages, tools, prompt_token_ids: ids = [] }) => {
    const aroundThem = TOKENS_AROUND_A_MESSAGE * (messages.length + 1 + (tools?.length ?? 0))
    return sum + ids.length + bytesOf({ messages, tools }) + aroundThem
  }, 0)
}

function bytesOf(prompt: Pick<GenerateRequest, 'messages' | 'tools'>): number {
  const contents = prompt.messages.reduce((sum, { content }) => sum + utf8Length(content), 0)
  return contents + utf8Length(besideContents(prompt))
}
