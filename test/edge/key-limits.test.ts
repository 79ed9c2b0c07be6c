import { abortAllDurableObjects, env, runInDurableObject } from 'cloudflare:test'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { TokenBucket } from '../../edge/durable/token-bucket.ts'
import { call, SLOW_KEY } from './support.ts'

describe('TokenBucket', () => {
  const take = (bucket: TokenBucket, perMinute: number, now: number) => bucket.take(perMinute, now).allowed

  it.each([1, 3, 7, 60, 1000])('gives exactly %i at once and then one per interval', (perMinute) => {
    const bucket = new TokenBucket()
    const start = 1_700_000_000_000
    const burst = Array.from({ length: 2 * perMinute }, () => take(bucket, perMinute, start))
    expect(burst.filter(Boolean)).toHaveLength(perMinute)
    const interval = 60_000 / perMinute
    for (let i = 1; i <= 3 * perMinute; i++) {
      expect(take(bucket, perMinute, start + i * interval - 0.5)).toBe(false)
      expect(take(bucket, perMinute, start + i * interval)).toBe(true)
      expect(take(bucket, perMinute, start + i * interval)).toBe(false)
    }
  })

  it('says how long to wait', () => {
    const bucket = new TokenBucket()
    expect(bucket.take(2, 0)).toEqual({ allowed: true, remaining: 1, retryAfterMs: 0, fullAfterMs: 30_000 })
    expect(bucket.take(2, 0)).toEqual({ allowed: true, remaining: 0, retryAfterMs: 0, fullAfterMs: 60_000 })
    const refused = bucket.take(2, 10_000)
    expect(refused).toMatchObject({ allowed: false, remaining: 0, fullAfterMs: 50_000 })
    expect(refused.retryAfterMs).toBeCloseTo(20_000, 0)
  })
})

describe('KeyLimits', () => {
  afterEach(() => {
    vi.useRealTimers()
  })

  it('is exact when many requests come at once', async () => {
    vi.useFakeTimers({ toFake: ['Date'] })
    const key = env.KEY_LIMITS.getByName('concurrent')
    const taken = await Promise.all(Array.from({ length: 200 }, () => key.take(50)))
    expect(taken.filter(({ allowed }) => allowed)).toHaveLength(50)
  })

  it('remembers a used-up bucket when it was evicted', async () => {
    vi.useFakeTimers({ toFake: ['Date'] })
    const key = env.KEY_LIMITS.getByName('evicted')
    await Promise.all(Array.from({ length: 5 }, () => key.take(5)))
    await vi.waitFor(
      () =>
        runInDurableObject(key, (_, { storage }) => expect(storage.kv.get('requests_full_at')).toBeDefined()),
      { timeout: 10_000 },
    )
    await abortAllDurableObjects()
    expect((await env.KEY_LIMITS.getByName('evicted').take(5)).allowed).toBe(false)
  })
})

it('answers 429 with what a client needs to wait', async () => {
  vi.useFakeTimers({ toFake: ['Date'] })
  const limits = (response: Response) =>
    ['limit', 'remaining', 'reset'].map((name) => response.headers.get(`x-ratelimit-${name}-requests`))
  const responses = await Promise.all(Array.from({ length: 4 }, () => call('/v1/models', { key: SLOW_KEY })))
  expect(responses.map(({ status }) => status).sort()).toEqual([200, 200, 200, 429])
  expect(responses.filter(({ ok }) => ok).map(limits)).toContainEqual(['3', '2', '20s'])
  const refused = responses.find(({ status }) => status === 429)
  expect(refused?.headers.get('retry-after')).toBe('20')
  expect(refused && limits(refused)).toEqual(['3', '0', '60s'])
  expect(await refused?.json()).toMatchObject({
    error: { code: 'rate_limit_exceeded', type: 'rate_limit_error' },
  })
  vi.useRealTimers()
})
