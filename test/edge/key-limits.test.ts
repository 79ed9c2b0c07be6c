import { abortAllDurableObjects, env, runInDurableObject } from 'cloudflare:test'
import { afterEach, describe, expect, inject, it, vi } from 'vitest'
import { LEASE_MS } from '../../edge/keys/budget/key-budget.ts'
import type { Wanted } from '../../edge/keys/key-limits.ts'
import { limitsOf } from '../../edge/keys/key-limits.ts'
import type { Limits } from '../../shared/api-keys.ts'
import { call, SLOW_KEY } from './support.ts'

/** Requests in the race; APAR_RACES=10000 in the environment makes them more. */
const RACES = inject('races')

const NOTHING = { prompt_tokens: 0, cached_prompt_tokens: 0, completion_tokens: 0 }

afterEach(() => {
  vi.useRealTimers()
})

/** A KeyLimits object for a subject that a token has proven. */
function subject(name: string, limits: Limits) {
  const principal = { id: name, scopes: ['generate' as const], models: null, limits }
  const object = limitsOf(env, name)
  return { object, enter: (wanted?: Wanted) => object.enter({ principal }, wanted) }
}

describe('KeyLimits', () => {
  it('is exact when many requests come at once', async () => {
    vi.useFakeTimers({ toFake: ['Date'] })
    const { enter } = subject('concurrent', { requests_per_minute: 50 })
    const entered = await Promise.all(Array.from({ length: 200 }, () => enter()))
    expect(entered.filter((one) => 'rates' in one && one.retryAfterMs === 0)).toHaveLength(50)
  })

  it('never has more streams or tokens out than allowed, and leaks none', async () => {
    vi.useFakeTimers({ toFake: ['Date'] })
    const limits: Limits = { concurrent_streams: 25, tokens_per_minute: 5000 }
    const { object, enter } = subject('race', limits)
    const reserve = async (index: number, ask: Wanted['ask']) => {
      // Both ways to a place: with the request, and after it.
      if (index % 2 === 0) return (await object.reserve(limits, ask)).reserved
      const entered = await enter({ models: ['demo'], ask })
      return 'reserved' in entered ? entered.reserved : undefined
    }
    let [open, mostOpen, used, granted, crashed] = [0, 0, 0, 0, 0]
    /** Of this minute: what is reserved, and what was used. */
    let taken = 0
    const refusals = new Set<string>()
    const run = async (index: number) => {
      const lease = `race-${index}`
      const tokens = 1 + ((index * 7919) % 200)
      const ask = { lease, promptTokens: tokens, newTokens: tokens, streams: 1 }
      const reserved = await reserve(index, ask)
      if (!reserved?.granted) return refusals.add(reserved?.limit ?? 'not asked')
      granted++
      open++
      taken += 2 * tokens
      mostOpen = Math.max(mostOpen, open)
      expect(taken).toBeLessThanOrEqual(5000)
      await object.renew(lease, 0)
      open--
      if (index % 10 === 0) return crashed++
      taken -= tokens
      used += tokens
      return await object.settle(limits, lease, { ...NOTHING, completion_tokens: tokens })
    }
    for (let begun = 0; begun < RACES; begun += 100) {
      await Promise.all(Array.from({ length: 100 }, (_, index) => run(begun + index)))
      // What crashed holds its slot until its lease ends.
      vi.setSystemTime(Date.now() + LEASE_MS)
      taken = 0
    }
    expect(mostOpen).toBe(25)
    expect(granted).toBeGreaterThan(RACES / 10)
    expect(crashed).toBeGreaterThan(RACES / 200)
    expect([...refusals].sort()).toEqual(['streams', 'tokens'])
    const { totals, days } = await object.usage(limits, '2000-01-01', '2100-01-01')
    expect(totals).toMatchObject({ streams: 0, reserved: 0 })
    expect(days.reduce((sum, { completion_tokens }) => sum + completion_tokens, 0)).toBe(used)
  }, 60_000)

  it('remembers what was used when it was evicted', async () => {
    vi.useFakeTimers({ toFake: ['Date'] })
    const limits: Limits = { requests_per_minute: 5, concurrent_streams: 1 }
    const { object, enter } = subject('evicted', limits)
    await Promise.all(Array.from({ length: 5 }, () => enter()))
    await object.reserve(limits, { lease: 'held', promptTokens: 1, newTokens: 1, streams: 1 })
    await vi.waitFor(
      () => runInDurableObject(object, (_, { storage }) => expect(storage.kv.get('budget')).toBeDefined()),
      { timeout: 10_000 },
    )
    await abortAllDurableObjects()
    const again = subject('evicted', limits)
    const entered = await again.enter()
    expect('rates' in entered && entered.retryAfterMs).toBeGreaterThan(0)
    const ask = { lease: 'second', promptTokens: 1, newTokens: 1, streams: 1 }
    expect((await again.object.reserve(limits, ask)).reserved).toMatchObject({ limit: 'streams' })
  })

  it('leaves nothing behind of a key that does not exist', async () => {
    const object = limitsOf(env, 'key:nobody')
    expect(await object.enter({ keyId: 'nobody', secret: 's'.repeat(32) })).toEqual({ bad: 'unknown' })
    const tables = await runInDurableObject(object, (_, { storage }) =>
      storage.sql.exec("SELECT name FROM sqlite_master WHERE name NOT LIKE '\\_cf%' ESCAPE '\\'").toArray(),
    )
    expect(tables).toEqual([])
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
})
