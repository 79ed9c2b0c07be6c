/** What came of taking one token. Times are from now, in ms. */
export interface Taken {
  readonly allowed: boolean
  /** Whole tokens left. */
  readonly remaining: number
  /** 0 when allowed. */
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

  take(perMinute: number, now: number): Taken {
    const interval = 60_000 / perMinute
    const missing = Math.max(0, this.fullAt - now) / interval
    // Repeated sums of a fraction drift by far less than this, and no client gains a token by it.
    const left = perMinute - missing + 1e-6
    const allowed = left >= 1
    if (allowed) this.fullAt = Math.max(this.fullAt, now) + interval
    return {
      allowed,
      remaining: Math.max(0, Math.floor(allowed ? left - 1 : left)),
      retryAfterMs: allowed ? 0 : (1 - left) * interval,
      fullAfterMs: Math.max(0, this.fullAt - now),
    }
  }
}
