import { abortAllDurableObjects, env, runDurableObjectAlarm, runInDurableObject } from 'cloudflare:test'
import { afterEach, describe, expect, inject, it, vi } from 'vitest'
import {
  type BudgetState,
  RESERVATION_MS,
  type ReservationRequest,
} from '../../edge/keys/budget/key-budget.ts'
import type { ModelReservationRequest } from '../../edge/keys/key-limits.ts'
import { limitsOf } from '../../edge/keys/key-limits.ts'
import type { Limits } from '../../shared/api-keys.ts'
import { call, SLOW_KEY } from './support.ts'

/** Number of requests of the race test; the environment variable APAR_RACES sets it (default 2000). */
const RACES = inject('races')

const NOTHING = { prompt_tokens: 0, cached_prompt_tokens: 0, completion_tokens: 0 }

afterEach(() => {
  vi.useRealTimers()
})

/** The KeyLimits object of a token's subject. */
function subject(name: string, limits: Limits) {
  const principal = { id: name, scopes: ['generate' as const], models: null, limits }
  const object = limitsOf(env, name)
  return { object, authorize: (wanted?: ModelReservationRequest) => object.authorize({ principal }, wanted) }
}

describe('KeyLimits', () => {
  it('is exact when many requests come at once', async () => {
    vi.useFakeTimers({ toFake: ['Date'] })
    const { authorize } = subject('concurrent', { requests_per_minute: 50 })
    const results = await Promise.all(Array.from({ length: 200 }, () => authorize()))
    expect(results.filter((one) => 'rates' in one && one.retryAfterMs === 0)).toHaveLength(50)
  })

  it('never reserves more streams or tokens than allowed, and leaks none', async () => {
    vi.useFakeTimers({ toFake: ['Date'] })
    const limits: Limits = { concurrent_streams: 25, tokens_per_minute: 5000 }
    const { object, authorize } = subject('race', limits)
    const reserve = async (index: number, reservation: ReservationRequest) => {
      // Alternates between the two ways to reserve: in a call of its own, and together with the authorization.
      if (index % 2 === 0) return (await object.reserve(limits, reservation)).result
      const authorization = await authorize({ models: ['demo'], request: reservation })
      return 'result' in authorization ? authorization.result : undefined
    }
    let [open, mostOpen, used, granted, crashed] = [0, 0, 0, 0, 0]
    /** Tokens of this minute that are reserved or were used. */
    let taken = 0
    const refusals = new Set<string>()
    const run = async (index: number) => {
      const id = `race-${index}`
      const tokens = 1 + ((index * 7919) % 200)
      const result = await reserve(index, { id, promptTokens: tokens, newTokens: tokens, streams: 1 })
      if (!result?.granted) return refusals.add(result?.limit ?? 'not reserved')
      granted++
      open++
      taken += 2 * tokens
      mostOpen = Math.max(mostOpen, open)
      expect(taken).toBeLessThanOrEqual(5000)
      await object.renew(id, 0)
      open--
      if (index % 10 === 0) return crashed++
      taken -= tokens
      used += tokens
      return await object.settle(limits, id, { ...NOTHING, completion_tokens: tokens })
    }
    for (let begun = 0; begun < RACES; begun += 100) {
      await Promise.all(Array.from({ length: 100 }, (_, index) => run(begun + index)))
      // A crashed run keeps its slot until its reservation expires.
      vi.setSystemTime(Date.now() + RESERVATION_MS)
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

  it('remembers what was used after an eviction', async () => {
    vi.useFakeTimers({ toFake: ['Date'] })
    const limits: Limits = { requests_per_minute: 5, concurrent_streams: 1 }
    const { object, authorize } = subject('evicted', limits)
    await Promise.all(Array.from({ length: 5 }, () => authorize()))
    await object.reserve(limits, { id: 'held', promptTokens: 1, newTokens: 1, streams: 1 })
    await vi.waitFor(
      () => runInDurableObject(object, (_, { storage }) => expect(storage.kv.get('budget')).toBeDefined()),
      { timeout: 10_000 },
    )
    await abortAllDurableObjects()
    const again = subject('evicted', limits)
    const result = await again.authorize()
    expect('rates' in result && result.retryAfterMs).toBeGreaterThan(0)
    const second = { id: 'second', promptTokens: 1, newTokens: 1, streams: 1 }
    expect((await again.object.reserve(limits, second)).result).toMatchObject({ limit: 'streams' })
  })

  it('stores nothing for a key that does not exist', async () => {
    const object = limitsOf(env, 'key:nobody')
    expect(await object.authorize({ keyId: 'nobody', secret: 's'.repeat(32) })).toEqual({ bad: 'unknown' })
    const tables = await runInDurableObject(object, (_, { storage }) =>
      storage.sql.exec("SELECT name FROM sqlite_master WHERE name NOT LIKE '\\_cf%' ESCAPE '\\'").toArray(),
    )
    expect(tables).toEqual([])
  })
})

describe('what KeyLimits stores', () => {
  const DAY_MS = 86_400_000

  /** What is stored, tables of the runtime left out; it and the alarm. */
  function stored(object: ReturnType<typeof limitsOf>) {
    return runInDurableObject(object, async (_, { storage }) => ({
      names: [...storage.kv.list()].map(([name]) => name.replace(/^ticket:.*/, 'ticket')),
      tables: storage.sql
        .exec("SELECT name FROM sqlite_master WHERE name NOT LIKE '%\\_%' ESCAPE '\\'")
        .toArray().length,
      alarm: await storage.getAlarm(),
    }))
  }

  it('is gone some time after the key was last used', async () => {
    vi.useFakeTimers({ toFake: ['Date'] })
    const { object, authorize } = subject('idle', { requests_per_minute: 5 })
    await authorize()
    await vi.waitFor(async () => expect((await stored(object)).names).toEqual(['budget']), {
      timeout: 10_000,
    })
    expect((await stored(object)).tables).toBeGreaterThan(0)
    vi.setSystemTime(Date.now() + DAY_MS)
    expect(await runDurableObjectAlarm(object)).toBe(true)
    // The usage is kept for a year and more, a full bucket is not.
    expect(await stored(object)).toMatchObject({ names: [], alarm: expect.any(Number) })
    expect((await object.usage({}, '2000-01-01', '2100-01-01')).days).toHaveLength(1)
    vi.setSystemTime(Date.now() + 401 * DAY_MS)
    expect(await runDurableObjectAlarm(object)).toBe(true)
    expect(await stored(object)).toEqual({ names: [], tables: 0, alarm: null })
  })

  it('is kept as long as tokens of this month or reservations count', async () => {
    vi.useFakeTimers({ toFake: ['Date'], now: Date.UTC(2030, 0, 10) })
    const limits: Limits = { tokens_per_month: 100 }
    const { object } = subject('busy', limits)
    await object.reserve(limits, { id: 'one', promptTokens: 10, newTokens: 10, streams: 1 })
    await vi.waitFor(async () => expect((await stored(object)).names).toEqual(['budget']), {
      timeout: 10_000,
    })
    await runDurableObjectAlarm(object)
    expect((await stored(object)).names).toEqual(['budget'])
    await object.settle(limits, 'one', { ...NOTHING, completion_tokens: 15 })
    const used = () =>
      runInDurableObject(object, (_, { storage }) => storage.kv.get<BudgetState>('budget')?.month.used)
    await vi.waitFor(async () => expect(await used()).toBe(15), { timeout: 10_000 })
    vi.setSystemTime(Date.UTC(2030, 0, 31))
    await runDurableObjectAlarm(object)
    await abortAllDurableObjects()
    const again = subject('busy', limits).object
    expect((await again.usage(limits, '2030-01-01', '2030-01-31')).totals.month).toBe(15)
    vi.setSystemTime(Date.UTC(2030, 1, 2))
    await runDurableObjectAlarm(again)
    expect((await stored(again)).names).toEqual([])
  })

  it('does not keep a ticket that nobody used', async () => {
    vi.useFakeTimers({ toFake: ['Date'] })
    const object = limitsOf(env, 'with a ticket')
    await object.createTicket({ id: 'with a ticket', scopes: ['generate'], models: null, limits: {} })
    expect((await stored(object)).names).toEqual(['ticket'])
    vi.setSystemTime(Date.now() + DAY_MS)
    expect(await runDurableObjectAlarm(object)).toBe(true)
    expect(await stored(object)).toEqual({ names: [], tables: 0, alarm: null })
  })

  it('is nothing for a key whose usage was read and that was not used', async () => {
    const object = limitsOf(env, 'never used')
    expect((await object.usage({}, '2000-01-01', '2100-01-01')).days).toEqual([])
    expect(await stored(object)).toEqual({ names: [], tables: 0, alarm: null })
  })
})

it('answers 429 with the headers about when to retry', async () => {
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
