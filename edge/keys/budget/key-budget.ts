import type { Limits } from '../../../shared/api-keys.ts'
import { type TakeResult, TokenBucket } from './token-bucket.ts'

/** A reservation that is not renewed expires after this time. After a crash its stream slots stay taken this long. */
export const RESERVATION_MS = 60_000

/** The most that a call may use, known before it runs. */
export interface ReservationRequest {
  /** Chosen by the caller. */
  readonly id: string
  readonly promptTokens: number
  /** New tokens of all answers together; undefined when the client has set no `max_tokens`. */
  readonly newTokens: number | undefined
  /** Answers written at the same time. */
  readonly streams: number
}

export type LimitName = 'requests' | 'tokens' | 'streams' | 'day' | 'month'

export type ReservationResult =
  | { readonly granted: true; readonly newTokens: number | undefined }
  | { readonly granted: false; readonly limit: LimitName; readonly retryAfterMs: number }

/** The state of a key's rate limits, as clients get it; undefined where there is no limit. */
export interface RateStatus {
  readonly requests?: TakeResult & { readonly limit: number }
  readonly tokens?: TakeResult & { readonly limit: number }
}

interface ActiveReservation {
  readonly id: string
  readonly streams: number
  readonly reserved: number
  /** Tokens used so far, as of the last renewal. */
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
  /** The reservations, under the name that stored states have. */
  leases: ActiveReservation[]
  /** The clock at the last call, in ms since the epoch; absent in states from before. */
  asOf?: number
}

/** New tokens of a request without `max_tokens`, for keys with a token limit. */
const DEFAULT_NEW_TOKENS = 4096
/** It is unknown when a running stream will end. This is the retry time sent instead. */
const RETRY_SOON_MS = 1_000

/**
 * What one key has used and reserved. Tokens are reserved before they are used, so that concurrent requests together
 * cannot exceed a limit, and settled to what was used. Has no clock and does no I/O.
 */
export class KeyBudget {
  readonly #requests: TokenBucket
  readonly #tokens: TokenBucket
  readonly #day: Quota
  readonly #month: Quota
  /** In order of expiry: all have the same lifetime, and a renewed reservation moves to the end. */
  readonly #reservations = new Map<string, ActiveReservation>()
  #streams = 0
  #reserved = 0
  /** The clock at the last call; undefined for a stored state that does not tell. */
  #asOf: number | undefined

  constructor(state?: BudgetState) {
    this.#requests = new TokenBucket(state?.requestsFullAt)
    this.#tokens = new TokenBucket(state?.tokensFullAt)
    this.#day = state?.day ?? { period: '', used: 0 }
    this.#month = state?.month ?? { period: '', used: 0 }
    for (const reservation of state?.leases ?? []) this.#add(reservation)
    this.#asOf = state ? state.asOf : 0
  }

  /** Takes one request from the rate limit; undefined when there is no limit. */
  takeRequest(limits: Limits, now: number): TakeResult | undefined {
    this.#followClock(now)
    const perMinute = limits.requests_per_minute
    return perMinute === undefined ? undefined : this.#requests.take(perMinute, now)
  }

  /** Reserves all stream slots and tokens, or nothing. */
  reserve(limits: Limits, request: ReservationRequest, now: number): ReservationResult {
    this.#expire(limits, now)
    const newTokens = request.newTokens ?? defaultNewTokens(limits, request.promptTokens)
    const tokens = request.promptTokens + (newTokens ?? 0)
    const { concurrent_streams = Number.POSITIVE_INFINITY } = limits
    if (this.#streams + request.streams > concurrent_streams) {
      const never = request.streams > concurrent_streams
      return refused('streams', never ? Number.POSITIVE_INFINITY : RETRY_SOON_MS)
    }
    const quota = this.#refusedByQuota(limits, tokens, now)
    if (quota) return quota
    if (limits.tokens_per_minute !== undefined) {
      const taken = this.#tokens.take(limits.tokens_per_minute, now, tokens)
      if (!taken.allowed) return refused('tokens', taken.retryAfterMs)
    }
    const { id, streams } = request
    this.#add({ id, streams, reserved: tokens, used: 0, expiresAt: now + RESERVATION_MS })
    return { granted: true, newTokens }
  }

  /**
   * Extends a reservation. `used`: tokens so far. False when it has expired: what it had used at its last renewal was
   * counted then, later use is not.
   */
  renew(id: string, used: number, now: number): boolean {
    this.#followClock(now)
    const reservation = this.#reservations.get(id)
    if (!reservation || reservation.expiresAt <= now) return false
    reservation.used = Math.max(reservation.used, used)
    reservation.expiresAt = now + RESERVATION_MS
    this.#reservations.delete(id)
    this.#reservations.set(id, reservation)
    return true
  }

  /** Ends a reservation and counts what it used. Does nothing for one that has expired. */
  settle(limits: Limits, id: string, used: number, now: number): void {
    this.#expire(limits, now)
    const reservation = this.#reservations.get(id)
    if (reservation) this.#end(limits, reservation, used, now)
  }

  rates(limits: Limits, now: number): RateStatus {
    this.#followClock(now)
    const { requests_per_minute, tokens_per_minute } = limits
    const status = (bucket: TokenBucket, limit: number) => ({ limit, ...bucket.state(limit, now) })
    return {
      ...(requests_per_minute !== undefined && { requests: status(this.#requests, requests_per_minute) }),
      ...(tokens_per_minute !== undefined && { tokens: status(this.#tokens, tokens_per_minute) }),
    }
  }

  /** Tokens used in the day and the month of `now`, and tokens and slots that are reserved. */
  totals(limits: Limits, now: number): { day: number; month: number; reserved: number; streams: number } {
    this.#expire(limits, now)
    this.#startPeriods(now)
    return {
      day: this.#day.used,
      month: this.#month.used,
      reserved: this.#reserved,
      streams: this.#streams,
    }
  }

  /** Nothing has to be remembered: it is as a new one. */
  isIdle(now: number): boolean {
    // Without limits: what was reserved too much in the bucket of tokens has come back since.
    this.#expire({}, now)
    this.#startPeriods(now)
    const full = Math.max(this.#requests.fullAt, this.#tokens.fullAt) <= now
    return full && this.#reservations.size === 0 && this.#day.used === 0 && this.#month.used === 0
  }

  state(): BudgetState {
    return {
      requestsFullAt: this.#requests.fullAt,
      tokensFullAt: this.#tokens.fullAt,
      day: { ...this.#day },
      month: { ...this.#month },
      leases: [...this.#reservations.values()].map((reservation) => ({ ...reservation })),
      ...(this.#asOf !== undefined && { asOf: this.#asOf }),
    }
  }

  #refusedByQuota(limits: Limits, tokens: number, now: number): ReservationResult | undefined {
    this.#startPeriods(now)
    const { tokens_per_day, tokens_per_month } = limits
    const refusedBy = (name: 'day' | 'month', limit: number | undefined, used: number, end: number) => {
      if (limit === undefined || used + this.#reserved + tokens <= limit) return undefined
      if (tokens > limit) return refused(name, Number.POSITIVE_INFINITY)
      // Reserved tokens that are not used come back.
      return refused(name, used + tokens <= limit ? RETRY_SOON_MS : end - now)
    }
    return (
      refusedBy('month', tokens_per_month, this.#month.used, nextMonth(now)) ??
      refusedBy('day', tokens_per_day, this.#day.used, nextDay(now))
    )
  }

  #add(reservation: ActiveReservation): void {
    this.#reservations.set(reservation.id, reservation)
    this.#streams += reservation.streams
    this.#reserved += reservation.reserved
  }

  #end(limits: Limits, reservation: ActiveReservation, used: number, now: number): void {
    this.#startPeriods(now)
    this.#reservations.delete(reservation.id)
    this.#streams -= reservation.streams
    this.#reserved -= reservation.reserved
    this.#day.used += used
    this.#month.used += used
    if (limits.tokens_per_minute !== undefined) {
      this.#tokens.settle(limits.tokens_per_minute, now, reservation.reserved - used)
    }
  }

  /**
   * The workers runtime has no monotonic clock. When the clock was set back, all times move with it: otherwise a key
   * whose limit is used up would be locked for as long as the clock was set back.
   */
  #followClock(now: number): void {
    // Without a time to compare with: nothing can be owed or reserved for longer than this.
    const back = this.#asOf === undefined ? this.#latest() - now - RESERVATION_MS : this.#asOf - now
    this.#asOf = now
    if (back <= 0) return
    this.#requests.fullAt -= back
    this.#tokens.fullAt -= back
    for (const reservation of this.#reservations.values()) reservation.expiresAt -= back
  }

  /** The latest time at which something is owed or reserved. */
  #latest(): number {
    const ends = [...this.#reservations.values()].map(({ expiresAt }) => expiresAt)
    return Math.max(this.#requests.fullAt, this.#tokens.fullAt, ...ends)
  }

  #expire(limits: Limits, now: number): void {
    this.#followClock(now)
    for (const reservation of this.#reservations.values()) {
      if (reservation.expiresAt > now) return
      this.#end(limits, reservation, reservation.used, now)
    }
  }

  /** Resets the quota of a day or month that has ended. */
  #startPeriods(now: number): void {
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

function refused(limit: LimitName, retryAfterMs: number): ReservationResult {
  return { granted: false, limit, retryAfterMs }
}

/** At most what the smallest limit allows, so that a small limit does not refuse requests without `max_tokens`. */
function defaultNewTokens(limits: Limits, promptTokens: number): number | undefined {
  const { tokens_per_minute, tokens_per_day, tokens_per_month } = limits
  const bounds = [tokens_per_minute, tokens_per_day, tokens_per_month].filter((limit) => limit !== undefined)
  if (bounds.length === 0) return undefined
  return Math.max(1, Math.min(DEFAULT_NEW_TOKENS, ...bounds.map((bound) => bound - promptTokens)))
}

function nextDay(now: number): number {
  const date = new Date(now)
  return Date.UTC(date.getUTCFullYear(), date.getUTCMonth(), date.getUTCDate() + 1)
}

function nextMonth(now: number): number {
  const date = new Date(now)
  return Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + 1)
}
