/** Result of taking from a bucket. Times are from now, in ms. */
export interface TakeResult {
  readonly allowed: boolean
  /** Whole tokens left. */
  readonly remaining: number
  /** 0 when allowed; Infinity when the bucket can never hold as much. */
  readonly retryAfterMs: number
  readonly fullAfterMs: number
}

/**
 * A bucket of `perMinute` tokens that refills evenly over a minute. Its state is one number: the time at which it
 * will be full again (the "theoretical arrival time" of GCRA, ITU-T I.371), so nothing needs to refill it.
 */
export class TokenBucket {
  /** In ms since the epoch. */
  fullAt: number

  constructor(fullAt = 0) {
    this.fullAt = fullAt
  }

  /** Takes `count` tokens, or none. */
  take(perMinute: number, now: number, count = 1): TakeResult {
    const interval = 60_000 / perMinute
    const left = this.#left(perMinute, now)
    const allowed = left >= count
    if (allowed) this.fullAt = Math.max(this.fullAt, now) + count * interval
    const wait = count > perMinute ? Number.POSITIVE_INFINITY : (count - left) * interval
    return {
      allowed,
      remaining: Math.max(0, Math.floor(allowed ? left - count : left)),
      retryAfterMs: allowed ? 0 : wait,
      fullAfterMs: Math.max(0, this.fullAt - now),
    }
  }

  /**
   * Returns what a reservation did not use (`count` > 0), or takes what it used in excess (`count` < 0). The level may
   * become negative: the bucket then gives nothing until it has refilled above zero.
   */
  settle(perMinute: number, now: number, count: number): void {
    const from = count < 0 ? Math.max(this.fullAt, now) : this.fullAt
    this.fullAt = from - (count * 60_000) / perMinute
  }

  /** As `take` with `count` 0. */
  state(perMinute: number, now: number): TakeResult {
    return this.take(perMinute, now, 0)
  }

  #left(perMinute: number, now: number): number {
    const missing = Math.max(0, this.fullAt - now) / (60_000 / perMinute)
    // Rounding errors of repeated sums are far smaller than this, and it gives no client an extra token.
    return perMinute - missing + 1e-6
  }
}
