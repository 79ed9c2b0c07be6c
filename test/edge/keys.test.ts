import { abortAllDurableObjects, env, runInDurableObject } from 'cloudflare:test'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { keyStoreOf } from '../../edge/keys/key-store.ts'
import { API_KEY_PATTERN } from '../../shared/api-keys.ts'
import { ADMIN_KEY, admin, call, KEY, newKey } from './support.ts'

const DAY_SECONDS = 24 * 3600

afterEach(() => {
  vi.useRealTimers()
})

async function statusOf(key: string): Promise<number> {
  return (await call('/v1/models', { key })).status
}

async function messageFor(key: string): Promise<string> {
  const { error } = await (await call('/v1/models', { key })).json<{ error: { message: string } }>()
  return error.message
}

describe('/admin/v1/keys', () => {
  it('is closed to everyone without the admin key', async () => {
    for (const key of ['', KEY, `${ADMIN_KEY}x`]) {
      const response = await admin('', { key })
      expect(response.status).toBe(401)
      expect(await response.json()).toMatchObject({ error: { code: 'invalid_api_key' } })
    }
  })

  it('makes a key that works at once, and shows it once', async () => {
    const made = await newKey({ id: 'team-a', limits: { requests_per_minute: 7 }, models: ['demo'] })
    expect(made).toMatchObject({ id: 'team-a', models: ['demo'], scopes: ['generate', 'models', 'usage'] })
    expect(made.key).toMatch(API_KEY_PATTERN)
    expect(await statusOf(made.key)).toBe(200)
    expect(await statusOf(`${made.key.slice(0, -1)}!`)).toBe(401)
    const secret = made.key.split('_').slice(2).join('_')
    const shown = JSON.stringify([
      await (await admin('/team-a')).json(),
      await (await admin('?limit=1000')).json(),
    ])
    expect(shown).not.toContain(secret)
    expect(shown).not.toMatch(/hash|salt/)
    const stored = await runInDurableObject(keyStoreOf(env), (_, { storage }) =>
      storage.sql.exec('SELECT record FROM api_key').toArray(),
    )
    expect(JSON.stringify(stored)).toContain('team-a')
    expect(JSON.stringify(stored)).not.toContain(secret)
  })

  it('keeps its keys after an eviction', async () => {
    const { key } = await newKey()
    await abortAllDurableObjects()
    expect(await statusOf(key)).toBe(200)
  })

  it('uses no id twice', async () => {
    const { id } = await newKey({ id: 'once' })
    await admin(`/${id}`, { method: 'DELETE' })
    for (const taken of ['once', 'test']) {
      const response = await admin('', { method: 'POST', json: { id: taken } })
      expect(response.status).toBe(409)
      expect(await response.json()).toMatchObject({ error: { code: 'key_exists', param: 'id' } })
    }
  })

  it('lists keys page by page', async () => {
    await Promise.all(['page-a', 'page-b', 'page-c'].map((id) => newKey({ id })))
    const page = async (query: string) =>
      (await admin(query)).json<{ data: { id: string }[]; has_more: boolean }>()
    const first = await page('?after=page-&limit=2')
    expect(first).toMatchObject({ data: [{ id: 'page-a' }, { id: 'page-b' }], has_more: true })
    expect((await page('?after=page-b&limit=1')).data).toMatchObject([{ id: 'page-c' }])
    // Configured keys are included, and each key comes once, whatever the size of a page.
    const everything = (await page('?limit=1000')).data.map(({ id }) => id)
    expect(everything).toEqual(expect.arrayContaining(['test', 'slow', 'page-a']))
    const oneByOne: string[] = []
    for (let more = true; more; ) {
      const next = await page(`?limit=1&after=${oneByOne.at(-1) ?? ''}`)
      oneByOne.push(...next.data.map(({ id }) => id))
      more = next.has_more
    }
    expect(oneByOne).toEqual(everything)
  })

  it('revokes a key for good, from the next request on', async () => {
    const { id, key } = await newKey()
    expect(await statusOf(key)).toBe(200)
    const revoked = await admin(`/${id}`, { method: 'DELETE' })
    expect(await revoked.json()).toMatchObject({ id, revoked_at: expect.any(Number) })
    expect(await statusOf(key)).toBe(401)
    expect(await messageFor(key)).toBe('this API key was revoked')
    expect((await admin(`/${id}`, { method: 'DELETE' })).status).toBe(200)
    expect((await admin(`/${id}/rotate`, { method: 'POST' })).status).toBe(400)
    expect((await admin(`/${id}`, { method: 'PATCH', json: { expires_at: null } })).status).toBe(400)
    expect(await statusOf(key)).toBe(401)
  })

  it('rotates: the new secret works, the old one only within its grace time', async () => {
    vi.useFakeTimers({ toFake: ['Date'] })
    const { id, key: first } = await newKey()
    const rotate = async (json: object) =>
      (await admin(`/${id}/rotate`, { method: 'POST', json })).json<{ key: string }>()
    const { key: second } = await rotate({ grace_seconds: 60 })
    expect(await Promise.all([first, second].map(statusOf))).toEqual([200, 200])
    vi.setSystemTime(Date.now() + 61_000)
    expect(await Promise.all([first, second].map(statusOf))).toEqual([401, 200])
    const { key: third } = await rotate({})
    expect(await Promise.all([second, third].map(statusOf))).toEqual([401, 200])
  })

  it('rotates again within a grace time, also concurrently: every secret keeps its own grace time', async () => {
    vi.useFakeTimers({ toFake: ['Date'] })
    const { id, key: first } = await newKey()
    const post = (grace_seconds: number) =>
      admin(`/${id}/rotate`, { method: 'POST', json: { grace_seconds } })
    const rotate = async (grace: number) => (await (await post(grace)).json<{ key: string }>()).key
    const [second, third] = await Promise.all([rotate(60), rotate(60)])
    expect(await Promise.all([first, second, third].map(statusOf))).toEqual([200, 200, 200])
    const fourth = await rotate(3600)
    vi.setSystemTime(Date.now() + 61_000)
    const late = await Promise.all([first, second, third, fourth].map(statusOf))
    // The later of the two concurrent rotations was replaced by the fourth, with a grace time of an hour.
    expect(late.toSorted()).toEqual([200, 200, 401, 401])
    expect(late[3]).toBe(200)
    for (let more = 0; more < 7; more++) expect((await post(60)).status).toBe(200)
    const refused = await post(60)
    expect(refused.status).toBe(400)
    expect(await refused.json()).toMatchObject({ error: { param: 'grace_seconds' } })
    const last = await rotate(0)
    expect(await Promise.all([first, second, third, fourth, last].map(statusOf))).toEqual([
      401, 401, 401, 401, 200,
    ])
  })

  it('lets keys expire', async () => {
    vi.useFakeTimers({ toFake: ['Date'] })
    const now = Math.floor(Date.now() / 1000)
    const { id, key } = await newKey({ expires_at: now + DAY_SECONDS })
    expect(await statusOf(key)).toBe(200)
    vi.setSystemTime((now + DAY_SECONDS) * 1000)
    expect(await messageFor(key)).toBe('this API key has expired')
    await admin(`/${id}`, { method: 'PATCH', json: { expires_at: null } })
    expect(await statusOf(key)).toBe(200)
  })

  it('changes only the given fields', async () => {
    const { id, key } = await newKey({ limits: { requests_per_minute: 100 }, models: ['demo'] })
    const changed = await admin(`/${id}`, { method: 'PATCH', json: { scopes: ['usage'] } })
    expect(await changed.json()).toMatchObject({
      scopes: ['usage'],
      models: ['demo'],
      limits: { requests_per_minute: 100 },
    })
    const refused = await call('/v1/models', { key })
    expect(refused.status).toBe(403)
    expect(await refused.json()).toMatchObject({ error: { code: 'insufficient_scope' } })
    expect((await call('/v1/usage', { key })).status).toBe(200)
  })

  it('shows and changes weight and priority', async () => {
    const { id } = await newKey({ weight: 2.5 })
    expect(await (await admin(`/${id}`)).json()).toMatchObject({ weight: 2.5, priority: 0 })
    const changed = await admin(`/${id}`, { method: 'PATCH', json: { priority: -1 } })
    expect(await changed.json()).toMatchObject({ weight: 2.5, priority: -1 })
  })

  it.each([
    ['POST', '', { weight: 0 }, 'weight'],
    ['POST', '', { weight: 101 }, 'weight'],
    ['PATCH', '/test', { priority: 5 }, 'priority'],
    ['PATCH', '/test', { priority: 0.5 }, 'priority'],
    ['POST', '', { id: 'a b' }, 'id'],
    ['POST', '', { scopes: ['root'] }, 'scopes.0'],
    ['POST', '', { limits: { requests_per_minute: 0 } }, 'limits.requests_per_minute'],
    ['POST', '', { secret: 'mine' }, 'secret'],
    ['PATCH', '/test', { hash: 'x' }, 'hash'],
    ['POST', '/test/rotate', { grace_seconds: -1 }, 'grace_seconds'],
  ])('%s %s %o → 400 at %s', async (method, path, json, param) => {
    const response = await admin(path, { method, json })
    expect(response.status).toBe(400)
    expect(await response.json()).toMatchObject({ error: { code: 'invalid_request', param } })
  })

  it('answers with the reason when it cannot change a key', async () => {
    expect((await admin('/nobody')).status).toBe(404)
    expect((await admin('/nobody', { method: 'DELETE' })).status).toBe(404)
    const fixed = await admin('/test', { method: 'DELETE' })
    expect(fixed.status).toBe(400)
    expect(await fixed.json()).toMatchObject({ error: { message: expect.stringContaining('API_KEYS') } })
    expect(await statusOf(KEY)).toBe(200)
  })
})
