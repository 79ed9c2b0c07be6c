import type { StreamEvent, Usage } from '../../shared/protocol/events.ts'
import type { GenerateRequest } from '../../shared/protocol/request.ts'
import { utf8Length } from '../../shared/utf8.ts'
import type { Env } from '../env.ts'
import type { Ask, RateStatus, Reserved } from './budget/key-budget.ts'
import { limitError } from './budget/rates.ts'
import { limitsOf } from './key-limits.ts'
import { type Principal, requireModel } from './principal.ts'

/** A third of a lease, so that two lost renewals do no harm. */
const RENEW_MS = 20_000
/** What a template may add: control tokens and role names around each message. */
const TOKENS_AROUND_A_MESSAGE = 16
/** About what English takes; only for streams that broke off before they could say what they used. */
const BYTES_PER_TOKEN = 4

/** A place in a key's limits, as it is handed from one holder to the next. */
export interface Lease {
  readonly id: string
  /** The prompt counts with another lease. */
  readonly promptCounted: boolean
}

/**
 * The place that one request has in its key's limits, from admission to the end of its last stream. Whoever runs the
 * streams shows each of their events to `observe` and calls `settle` at the end, however that came.
 */
export class Admission {
  /** The requests as they may run: where tokens are limited, `max_tokens` is set. */
  readonly requests: readonly GenerateRequest[]
  /** What is left for others, as far as this admission asked. */
  readonly rates: RateStatus
  readonly lease: Lease
  readonly #principal: Principal
  readonly #limits: ReturnType<typeof limitsOf>
  readonly #meters: readonly Meter[]
  readonly #renewal: ReturnType<typeof setInterval>

  private constructor(
    env: Env,
    principal: Principal,
    lease: Lease,
    requests: GenerateRequest[],
    rates: RateStatus = {},
  ) {
    this.requests = requests
    this.rates = rates
    this.#principal = principal
    this.#limits = limitsOf(env, principal.id)
    this.lease = lease
    this.#meters = requests.map((request) => new Meter(request))
    this.#renewal = setInterval(() => void this.#renew(), RENEW_MS)
  }

  /**
   * Takes a slot per request and every token that they may use.
   * `promptCounted`: another admission has the same messages.
   * @throws AparError `model_not_allowed`, `too_many_streams`, `rate_limit_exceeded`, `insufficient_quota`
   */
  static async open(
    env: Env,
    principal: Principal,
    requests: readonly GenerateRequest[],
    { promptCounted = false } = {},
  ): Promise<Admission> {
    for (const { model } of requests) requireModel(principal, model)
    const lease = newLease(promptCounted)
    const ask = askFor(requests, lease)
    const { reserved, rates } = await limitsOf(env, principal.id).reserve(principal.limits, ask)
    return Admission.reserved(env, principal, requests, lease, reserved, rates)
  }

  /** Goes on with the answer to {@link askFor}. @throws AparError as `open`. */
  static reserved(
    env: Env,
    principal: Principal,
    requests: readonly GenerateRequest[],
    lease: Lease,
    reserved: Reserved,
    rates: RateStatus,
  ): Admission {
    if (!reserved.granted) throw limitError(reserved.limit, reserved.retryAfterMs)
    const { newTokens } = reserved
    const each = newTokens === undefined ? undefined : Math.max(1, Math.floor(newTokens / requests.length))
    const bounded = requests.map((request) => {
      return request.max_tokens !== undefined || each === undefined
        ? request
        : { ...request, max_tokens: each }
    })
    return new Admission(env, principal, lease, bounded, rates)
  }

  /** Goes on with what another one has handed over. */
  static adopt(env: Env, principal: Principal, lease: Lease, request: GenerateRequest): Admission {
    return new Admission(env, principal, lease, [request])
  }

  /** Whoever runs the streams from now on adopts the lease; until then nobody renews it. */
  handOver(): Lease {
    clearInterval(this.#renewal)
    return this.lease
  }

  observe(event: StreamEvent, stream = 0): void {
    this.#meters[stream]?.observe(event)
  }

  async settle(): Promise<void> {
    clearInterval(this.#renewal)
    await this.#limits.settle(this.#principal.limits, this.lease.id, this.#spent())
  }

  /** Answers to the same messages share them: their tokens count once, as in OpenAI's usage. */
  #spent(): Spent {
    const sum = { prompt_tokens: 0, cached_prompt_tokens: 0, completion_tokens: 0 }
    const { promptCounted } = this.lease
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
    // The next one may succeed; if none does, the lease ends by itself.
    await this.#limits.renew(this.lease.id, used).catch(() => {})
  }
}

type Spent = Pick<Usage, 'prompt_tokens' | 'cached_prompt_tokens' | 'completion_tokens'>

/** What one stream used: what the gpu node says, or, where that was lost, an estimate by the text that came. */
class Meter {
  readonly messages: GenerateRequest['messages']
  readonly #promptBytes: number
  #accepted = false
  #bytes = 0
  #usage: Spent | undefined

  constructor(request: GenerateRequest) {
    this.messages = request.messages
    this.#promptBytes = bytesOf(request.messages)
  }

  observe(event: StreamEvent): void {
    if (event.type === 'accepted') this.#accepted = true
    else if (event.type === 'delta') this.#bytes += utf8Length(event.text)
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

export function newLease(promptCounted = false): Lease {
  return { id: crypto.randomUUID(), promptCounted }
}

/** A slot per request and every token that they may use. */
export function askFor(requests: readonly GenerateRequest[], { id, promptCounted }: Lease): Ask {
  return {
    lease: id,
    streams: requests.length,
    promptTokens: promptCounted ? 0 : mostPromptTokens(requests),
    newTokens: sumOfMaxTokens(requests),
  }
}

/** undefined when one of them names no number. */
function sumOfMaxTokens(requests: readonly GenerateRequest[]): number | undefined {
  return requests.reduce<number | undefined>((sum, { max_tokens }) => {
    return sum === undefined || max_tokens === undefined ? undefined : sum + max_tokens
  }, 0)
}

/**
 * A token has at least one byte: so it can never be more, and a reservation always covers the prompts. Answers to the
 * same messages share them.
 */
function mostPromptTokens(requests: readonly GenerateRequest[]): number {
  const prompts = new Set(requests.map(({ messages }) => messages))
  return [...prompts].reduce((sum, messages) => {
    return sum + bytesOf(messages) + TOKENS_AROUND_A_MESSAGE * (messages.length + 1)
  }, 0)
}

function bytesOf(messages: GenerateRequest['messages']): number {
  return messages.reduce((sum, { content }) => sum + utf8Length(content), 0)
}
