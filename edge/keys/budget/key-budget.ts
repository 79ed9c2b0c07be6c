import type { Limits } from '../../../shared/api-keys.ts'
import { type Taken, TokenBucket } from './token-bucket.ts'

/** Without a word from its holder a lease ends after this long: so long may a crash keep a slot. */
export const LEASE_MS = 60_000

/** What a request may use at most, known before it runs. */
export interface Ask {
  readonly lease: string
  readonly promptTokens: number
  /** New tokens, all answers together; undefined when the client named none. */
  readonly newTokens: number | undefined
  /** Answers written at the same time. */
  readonly streams: number
}

export type LimitName = 'requests' | 'tokens' | 'streams' | 'day' | 'month'

export type Reserved =
  | { readonly granted: true; readonly newTokens: number | undefined }
  | { readonly granted: false; readonly limit: LimitName; readonly retryAfterMs: number }

/** What a client is told about its buckets; undefined where it has no limit. */
export interface RateStatus {
  readonly requests?: Taken & { readonly limit: number }
  readonly tokens?: Taken & { readonly limit: number }
}

interface Lease {
  readonly id: string
  readonly streams: number
  readonly reserved: number
  /** Tokens used so far, as its holder last said. */
  used: number
  expiresAt: number
}

/** Tokens used in one day or month; `period` is its beginning, as in `2026-11` or `2026-11-23`. */
interface Quota {
  period: string
  used: number
}

export interface BudgetState {
  requestsFullAt: number
  tokensFullAt: number
  day: Quota
  month: Quota
  leases: Lease[]
}

/** New tokens that a request without `max_tokens` may have, where tokens are limited at all. */
const UNSTATED_NEW_TOKENS = 4096
/** Nobody knows when a running stream will end: the soonest at which asking again makes sense. */
const RETRY_SOON_MS = 1_000

/**
 * What one key has used and reserved. Tokens are reserved before they are used, so that no number of requests at once
 * can pass a limit, and settled to what was used. Holds no clock and does no I/O.
 */
export class KeyBudget {
  readonly #requests: TokenBucket
  readonly #tokens: TokenBucket
  readonly #day: Quota
  readonly #month: Quota
  /** In order of their expiry: each lease has the same time, and goes to the end when it is renewed. */
  readonly #leases = new Map<string, Lease>()
  #streams = 0
  #reserved = 0

  constructor(state?: BudgetState) {
    this.#requests = new TokenBucket(state?.requestsFullAt)
    this.#tokens = new TokenBucket(state?.tokensFullAt)
    this.#day = state?.day ?? { period: '', used: 0 }
    this.#month = state?.month ?? { period: '', used: 0 }
    for (const lease of state?.leases ?? []) this.#add(lease)
  }

  /** Takes one request. */
  enter(limits: Limits, now: number): Taken | undefined {
    const perMinute = limits.requests_per_minute
    return perMinute === undefined ? undefined : this.#requests.take(perMinute, now)
  }

  /** Takes slots and tokens, or nothing. */
  reserve(limits: Limits, ask: Ask, now: number): Reserved {
    this.#expire(limits, now)
    const newTokens = ask.newTokens ?? unstatedTokens(limits, ask.promptTokens)
    const tokens = ask.promptTokens + (newTokens ?? 0)
    const { concurrent_streams = Number.POSITIVE_INFINITY } = limits
    if (this.#streams + ask.streams > concurrent_streams) {
      const never = ask.streams > concurrent_streams
      return refused('streams', never ? Number.POSITIVE_INFINITY : RETRY_SOON_MS)
    }
    const quota = this.#refusedByQuota(limits, tokens, now)
    if (quota) return quota
    if (limits.tokens_per_minute !== undefined) {
      const taken = this.#tokens.take(limits.tokens_per_minute, now, tokens)
      if (!taken.allowed) return refused('tokens', taken.retryAfterMs)
    }
    const { lease: id, streams } = ask
    this.#add({ id, streams, reserved: tokens, used: 0, expiresAt: now + LEASE_MS })
    return { granted: true, newTokens }
  }

  /** Keeps a lease. False when it has ended: what it had used by its last renewal was counted then, more is not. */
  renew(id: string, used: number, now: number): boolean {
    const lease = this.#leases.get(id)
    if (!lease || lease.expiresAt <= now) return false
    lease.used = Math.max(lease.used, used)
    lease.expiresAt = now + LEASE_MS
    this.#leases.delete(id)
    this.#leases.set(id, lease)
    return true
  }

  /** Ends a lease with what was used; one that expired before has counted what was known of it then. */
  settle(limits: Limits, id: string, used: number, now: number): void {
    this.#expire(limits, now)
    const lease = this.#leases.get(id)
    if (lease) this.#end(limits, lease, used, now)
  }

  /** Slots in use, expired ones included until somebody asks for a slot. */
  get streams(): number {
    return this.#streams
  }

  rates(limits: Limits, now: number): RateStatus {
    const { requests_per_minute, tokens_per_minute } = limits
    const status = (bucket: TokenBucket, limit: number) => ({ limit, ...bucket.state(limit, now) })
    return {
      ...(requests_per_minute !== undefined && { requests: status(this.#requests, requests_per_minute) }),
      ...(tokens_per_minute !== undefined && { tokens: status(this.#tokens, tokens_per_minute) }),
    }
  }

  /** Tokens used in the day and month that `now` lies in, and those that are reserved. */
  totals(limits: Limits, now: number): { day: number; month: number; reserved: number; streams: number } {
    this.#expire(limits, now)
    this.#turn(now)
    return {
      day: this.#day.used,
      month: this.#month.used,
      reserved: this.#reserved,
      streams: this.#streams,
    }
  }

  state(): BudgetState {
    return {
      requestsFullAt: this.#requests.fullAt,
      tokensFullAt: this.#tokens.fullAt,
      day: { ...this.#day },
      month: { ...this.#month },
      leases: [...this.#leases.values()].map((lease) => ({ ...lease })),
    }
  }

  #refusedByQuota(limits: Limits, tokens: number, now: number): Reserved | undefined {
    this.#turn(now)
    const { tokens_per_day, tokens_per_month } = limits
    const refusedBy = (name: 'day' | 'month', limit: number | undefined, used: number, end: number) => {
      if (limit === undefined || used + this.#reserved + tokens <= limit) return undefined
      if (tokens > limit) return refused(name, Number.POSITIVE_INFINITY)
      // What is only reserved may come back.
      return refused(name, used + tokens <= limit ? RETRY_SOON_MS : end - now)
    }
    return (
      refusedBy('month', tokens_per_month, this.#month.used, nextMonth(now)) ??
      refusedBy('day', tokens_per_day, this.#day.used, nextDay(now))
    )
  }

  #add(lease: Lease): void {
    this.#leases.set(lease.id, lease)
    this.#streams += lease.streams
    this.#reserved += lease.reserved
  }

  #end(limits: Limits, lease: Lease, used: number, now: number): void {
    this.#turn(now)
    this.#leases.delete(lease.id)
    this.#streams -= lease.streams
    this.#reserved -= lease.reserved
    this.#day.used += used
    this.#month.used += used
    if (limits.tokens_per_minute !== undefined) {
      this.#tokens.settle(limits.tokens_per_minute, now, lease.reserved - used)
    }
  }

  #expire(limits: Limits, now: number): void {
    for (const lease of this.#leases.values()) {
      if (lease.expiresAt > now) return
      this.#end(limits, lease, lease.used, now)
    }
  }

  /** A new day or month begins with nothing used. */
  #turn(now: number): void {
    const day = dayOf(now)
    if (this.#day.period !== day) Object.assign(this.#day, { period: day, used: 0 })
    const month = day.slice(0, 7)
    if (this.#month.period !== month) Object.assign(this.#month, { period: month, used: 0 })
  }
}

/** `2026-11-23`, in UTC. */
export function dayOf(now: number): string {
  return new Date(now).toISOString().slice(0, 10)
}

function refused(limit: LimitName, retryAfterMs: number): Reserved {
  return { granted: false, limit, retryAfterMs }
}

/** As many as any limit could ever let through, so that a small limit does not refuse what names no number. */
function unstatedTokens(limits: Limits, promptTokens: number): number | undefined {
  const { tokens_per_minute, tokens_per_day, tokens_per_month } = limits
  const bounds = [tokens_per_minute, tokens_per_day, tokens_per_month].filter((limit) => limit !== undefined)
  if (bounds.length === 0) return undefined
  return Math.max(1, Math.min(UNSTATED_NEW_TOKENS, ...bounds.map((bound) => bound - promptTokens)))
}

function nextDay(now: number): number {
  const date = new Date(now)
  return Date.UTC(date.getUTCFullYear(), date.getUTCMonth(), date.getUTCDate() + 1)
}

function nextMonth(now: number): number {
  const date = new Date(now)
  return Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + 1)
}
