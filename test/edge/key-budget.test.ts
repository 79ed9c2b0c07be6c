import { describe, expect, it } from 'vitest'
import { KeyBudget, RESERVATION_MS } from '../../edge/keys/budget/key-budget.ts'
import { TokenBucket } from '../../edge/keys/budget/token-bucket.ts'
import type { Limits } from '../../shared/api-keys.ts'

const START = Date.UTC(2026, 10, 23, 12)
const MINUTE = 60_000
const DAY = 24 * 60 * MINUTE

let reservations = 0
function wanted(promptTokens: number, newTokens: number | undefined = 0, streams = 1) {
  return { id: `reservation-${reservations++}`, promptTokens, newTokens, streams }
}

describe('TokenBucket', () => {
  const take = (bucket: TokenBucket, perMinute: number, now: number) => bucket.take(perMinute, now).allowed

  it.each([1, 3, 7, 60, 1000])('gives exactly %i at once and then one per interval', (perMinute) => {
    const bucket = new TokenBucket()
    const burst = Array.from({ length: 2 * perMinute }, () => take(bucket, perMinute, START))
    expect(burst.filter(Boolean)).toHaveLength(perMinute)
    const interval = 60_000 / perMinute
    for (let i = 1; i <= 3 * perMinute; i++) {
      expect(take(bucket, perMinute, START + i * interval - 0.5)).toBe(false)
      expect(take(bucket, perMinute, START + i * interval)).toBe(true)
      expect(take(bucket, perMinute, START + i * interval)).toBe(false)
    }
  })

  it('says how long to wait', () => {
    const bucket = new TokenBucket()
    expect(bucket.take(2, 0)).toEqual({ allowed: true, remaining: 1, retryAfterMs: 0, fullAfterMs: 30_000 })
    expect(bucket.take(2, 0)).toEqual({ allowed: true, remaining: 0, retryAfterMs: 0, fullAfterMs: 60_000 })
    const refused = bucket.take(2, 10_000)
    expect(refused).toMatchObject({ allowed: false, remaining: 0, fullAfterMs: 50_000 })
    expect(refused.retryAfterMs).toBeCloseTo(20_000, 0)
    expect(bucket.take(2, 0, 3).retryAfterMs).toBe(Number.POSITIVE_INFINITY)
  })

  it('takes back unused tokens, but never holds more than its capacity', () => {
    const bucket = new TokenBucket()
    expect(bucket.take(100, START, 100).allowed).toBe(true)
    bucket.settle(100, START, 60)
    expect(bucket.state(100, START).remaining).toBe(60)
    bucket.settle(100, START + MINUTE, 40)
    expect(bucket.state(100, START + MINUTE).remaining).toBe(100)
  })

  it('goes below zero for tokens used in excess', () => {
    const bucket = new TokenBucket()
    bucket.settle(100, START, -150)
    expect(bucket.take(100, START + MINUTE / 2 - 1, 1).allowed).toBe(false)
    expect(bucket.take(100, START + MINUTE / 2 + 601, 1).allowed).toBe(true)
  })
})

describe('concurrent streams', () => {
  const limits: Limits = { concurrent_streams: 3 }

  it('are never more than allowed, and a slot is free again at the end', () => {
    const budget = new KeyBudget()
    const first = wanted(1)
    expect(budget.reserve(limits, first, START).granted).toBe(true)
    expect(budget.reserve(limits, wanted(1, 0, 2), START).granted).toBe(true)
    expect(budget.reserve(limits, wanted(1), START)).toMatchObject({ granted: false, limit: 'streams' })
    budget.settle(limits, first.id, 5, START)
    expect(budget.reserve(limits, wanted(1), START).granted).toBe(true)
  })

  it('are freed when a reservation is not renewed', () => {
    const budget = new KeyBudget()
    const [silent, alive] = [wanted(1, 0, 2), wanted(1)]
    budget.reserve(limits, silent, START)
    budget.reserve(limits, alive, START)
    expect(budget.renew(alive.id, 7, START + RESERVATION_MS - 1)).toBe(true)
    expect(budget.reserve(limits, wanted(1), START + RESERVATION_MS - 1).granted).toBe(false)
    expect(budget.reserve(limits, wanted(1, 0, 2), START + RESERVATION_MS).granted).toBe(true)
    expect(budget.reserve(limits, wanted(1), START + RESERVATION_MS).granted).toBe(false)
    expect(budget.renew(silent.id, 1, START + RESERVATION_MS)).toBe(false)
  })
})

describe('tokens', () => {
  it('are reserved before they are used, and settled to what was used', () => {
    const limits: Limits = { tokens_per_minute: 1000 }
    const budget = new KeyBudget()
    const first = wanted(100, 500)
    expect(budget.reserve(limits, first, START)).toEqual({ granted: true, newTokens: 500 })
    expect(budget.reserve(limits, wanted(100, 301), START)).toMatchObject({ granted: false, limit: 'tokens' })
    budget.settle(limits, first.id, 50, START)
    expect(budget.rates(limits, START).tokens).toMatchObject({ limit: 1000, remaining: 950 })
    expect(budget.reserve(limits, wanted(100, 850), START).granted).toBe(true)
    expect(budget.reserve(limits, wanted(0, 1), START).granted).toBe(false)
  })

  it('of a request without max_tokens are as many as the limits allow', () => {
    const newTokens = (limits: Limits) => {
      const result = new KeyBudget().reserve(limits, { ...wanted(100), newTokens: undefined }, START)
      return result.granted ? result.newTokens : 'refused'
    }
    expect(newTokens({})).toBeUndefined()
    expect(newTokens({ tokens_per_minute: 1000 })).toBe(900)
    expect(newTokens({ tokens_per_minute: 1_000_000, tokens_per_day: 500 })).toBe(400)
    expect(newTokens({ tokens_per_month: 1_000_000 })).toBe(4096)
    expect(newTokens({ tokens_per_minute: 50 })).toBe('refused')
  })

  it('of a day and a month are used up, and reset in the next one', () => {
    const limits: Limits = { tokens_per_day: 100, tokens_per_month: 200 }
    const budget = new KeyBudget()
    const use = (tokens: number, now: number) => {
      const request = wanted(tokens)
      const result = budget.reserve(limits, request, now)
      if (result.granted) budget.settle(limits, request.id, tokens, now)
      return result.granted ? 'granted' : [result.limit, result.retryAfterMs]
    }
    expect(use(90, START)).toBe('granted')
    expect(use(11, START)).toEqual(['day', DAY / 2])
    expect(use(101, START)).toEqual(['day', Number.POSITIVE_INFINITY])
    expect(use(50, START + DAY)).toBe('granted')
    expect(use(61, START + 2 * DAY)).toEqual(['month', Date.UTC(2026, 11, 1) - START - 2 * DAY])
    expect(use(100, Date.UTC(2026, 11, 1))).toBe('granted')
  })

  it('that are only reserved make other requests retry soon', () => {
    const budget = new KeyBudget()
    budget.reserve({ tokens_per_day: 100 }, wanted(60), START)
    expect(budget.reserve({ tokens_per_day: 100 }, wanted(60), START)).toMatchObject({ retryAfterMs: 1000 })
  })

  it('of a reservation that expires count as of its last renewal', () => {
    const limits: Limits = { tokens_per_day: 100 }
    const budget = new KeyBudget()
    const request = wanted(10, 80)
    budget.reserve(limits, request, START)
    budget.renew(request.id, 30, START + 1)
    const later = START + RESERVATION_MS + 1
    expect(budget.totals(limits, later)).toEqual({ day: 30, month: 30, reserved: 0, streams: 0 })
    budget.settle(limits, request.id, 90, later)
    expect(budget.totals(limits, later).day).toBe(30)
  })

  it('survive serialization', () => {
    const limits: Limits = { requests_per_minute: 2, tokens_per_minute: 100, tokens_per_day: 100 }
    const budget = new KeyBudget()
    const [open, over] = [wanted(10, 20), wanted(10, 20)]
    budget.takeRequest(limits, START)
    budget.reserve(limits, open, START)
    budget.reserve(limits, over, START)
    budget.settle(limits, over.id, 15, START)
    const again = new KeyBudget(JSON.parse(JSON.stringify(budget.state())))
    expect(again.state()).toEqual(budget.state())
    expect(again.totals(limits, START)).toEqual({ day: 15, month: 15, reserved: 30, streams: 1 })
    again.settle(limits, open.id, 5, START)
    expect(again.rates(limits, START)).toMatchObject({
      requests: { remaining: 1 },
      tokens: { remaining: 80 },
    })
  })
})

describe('a clock that is set back by an hour', () => {
  const HOUR = 60 * MINUTE
  const stored = (budget: KeyBudget, more: object = {}) =>
    new KeyBudget({ ...JSON.parse(JSON.stringify(budget.state())), ...more })

  it.each([
    ['in memory', (budget: KeyBudget) => budget],
    ['read from storage', (budget: KeyBudget) => stored(budget)],
    ['read from the storage of an older edge', (budget: KeyBudget) => stored(budget, { asOf: undefined })],
  ])('does not lock a key whose requests are used up, %s', (_, reload) => {
    const limits: Limits = { requests_per_minute: 2 }
    const budget = new KeyBudget()
    for (let request = 0; request < 2; request++) budget.takeRequest(limits, START)
    const later = reload(budget)
    const back = START - HOUR
    expect(later.takeRequest(limits, back)).toMatchObject({ allowed: false })
    expect(later.takeRequest(limits, back)?.retryAfterMs).toBeLessThanOrEqual(30_000)
    expect(later.takeRequest(limits, back + 30_000)).toMatchObject({ allowed: true })
    // And forward again: no more than a full bucket.
    const forward = Array.from({ length: 3 }, () => later.takeRequest(limits, START + HOUR)?.allowed)
    expect(forward).toEqual([true, true, false])
  })

  it('keeps what is owed, and reservations for their time', () => {
    const limits: Limits = { concurrent_streams: 1, tokens_per_minute: 100 }
    const budget = new KeyBudget()
    const request = wanted(10, 90)
    budget.reserve(limits, request, START)
    const back = START - HOUR
    expect(budget.reserve(limits, wanted(1), back)).toMatchObject({ limit: 'streams' })
    expect(budget.renew(request.id, 50, back + 1)).toBe(true)
    expect(budget.totals(limits, back + RESERVATION_MS)).toMatchObject({ streams: 1 })
    // Its holder crashes: the slot is free after the time of a reservation, not an hour later.
    expect(budget.totals(limits, back + 1 + RESERVATION_MS)).toMatchObject({ streams: 0, day: 50 })
  })

  it('does not lock a key with a quota', () => {
    const limits: Limits = { tokens_per_day: 100 }
    const budget = new KeyBudget()
    const midnight = Date.UTC(2026, 10, 24)
    const request = wanted(100)
    budget.reserve(limits, request, midnight + MINUTE)
    budget.settle(limits, request.id, 100, midnight + MINUTE)
    expect(budget.reserve(limits, wanted(100), midnight - MINUTE).granted).toBe(true)
  })
})
