import { abortAllDurableObjects, env, runDurableObjectAlarm, runInDurableObject } from 'cloudflare:test'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { createApp } from '../../edge/app.ts'
import { feedbackOf, MAX_OF_ALL, MAX_OF_OWNER, PAGE_ROWS } from '../../edge/feedback/feedback-store.ts'
import type { FeedbackRecord } from '../../shared/feedback.ts'
import { ADMIN_KEY, call, KEY, newKey } from './support.ts'

const vote = (fields: object = {}) => ({ id: 'answer-1', vote: 'up', model: 'demo', ...fields })
const give = (json: unknown, key = KEY) => call('/v1/feedback', { method: 'POST', json, key })
const admin = (query = '', method = 'GET') => call(`/admin/v1/feedback${query}`, { method, key: ADMIN_KEY })

async function exported(query = ''): Promise<FeedbackRecord[]> {
  const text = new TextDecoder().decode(await (await admin(query)).arrayBuffer())
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line))
}

const sql = (text: string, ...values: unknown[]) =>
  runInDurableObject(feedbackOf(env), (_, { storage }) => storage.sql.exec(text, ...values).toArray())

beforeEach(async () => {
  await feedbackOf(env).page(0)
  await sql('DELETE FROM feedback')
})
afterEach(async () => {
  await feedbackOf(env).withdrawAll('key:test')
})

describe('/v1/feedback', () => {
  it('keeps a vote, which the admin route exports as a line of JSON', async () => {
    const messages = [
      { role: 'user', content: 'hi\nthere' },
      { role: 'assistant', content: 'ho' },
    ]
    const response = await give(vote({ vote: 'flag', reason: 'wrong', parallel: true, messages }))
    expect(response.status).toBe(200)
    expect(await response.json()).toEqual({ object: 'feedback', id: 'answer-1', vote: 'flag', kept_days: 90 })
    const all = await admin()
    expect(all.headers.get('content-type')).toContain('application/jsonl')
    const [line, ...others] = await exported()
    expect(others).toEqual([])
    expect(line).toEqual({
      ...{ number: expect.any(Number), owner: 'key:test', id: 'answer-1', created_at: expect.any(Number) },
      ...{ vote: 'flag', reason: 'wrong', model: 'demo', parallel: true, messages },
    })
    // No address, no key, nothing that the client did not send.
    expect(await exported(`?after=${line?.number}`)).toEqual([])
  })

  it('a second vote replaces the first of the same key, and no other key’s', async () => {
    const { key } = await newKey({ id: 'other-voter' })
    await give(vote())
    await give(vote({ vote: 'down' }), key)
    await give(vote({ vote: 'down', reason: 'too long' }))
    const kept = (await exported()).map(({ owner, vote, reason }) => [owner, vote, reason])
    expect(kept).toEqual([
      ['key:other-voter', 'down', undefined],
      ['key:test', 'down', 'too long'],
    ])
    // Nor does it withdraw another key's.
    const withdrawn = await call('/v1/feedback/answer-1', { method: 'DELETE', key })
    expect(withdrawn.status).toBe(204)
    expect((await exported()).map(({ owner }) => owner)).toEqual(['key:test'])
  })

  it.each([
    ['an unknown vote', vote({ vote: 'sideways' }), 'vote'],
    ['no model', { id: 'a', vote: 'up' }, 'model'],
    ['an id with a slash', vote({ id: 'a/b' }), 'id'],
    ['a long reason', vote({ reason: 'x'.repeat(2001) }), 'reason'],
    [
      'long texts',
      vote({ messages: Array(5).fill({ role: 'user', content: 'x'.repeat(7000) }) }),
      'messages',
    ],
    ['an unknown field', vote({ address: '1.2.3.4' }), 'address'],
  ])('refuses %s', async (_, json, param) => {
    const response = await give(json)
    expect(response.status).toBe(400)
    expect(await response.json()).toMatchObject({ error: { code: 'invalid_request', param } })
    expect(await exported()).toEqual([])
  })

  it('takes none from strangers, and none from keys that may not generate', async () => {
    expect((await give(vote(), 'apar_nobody_00000000000000000000')).status).toBe(401)
    const { key } = await newKey({ scopes: ['models'] })
    expect((await give(vote(), key)).status).toBe(403)
    expect(await exported()).toEqual([])
  })

  it('takes one request of the key’s rate limit', async () => {
    const { key } = await newKey({ limits: { requests_per_minute: 2 } })
    expect([(await give(vote(), key)).status, (await give(vote(), key)).status]).toEqual([200, 200])
    expect((await give(vote(), key)).status).toBe(429)
  })

  it('takes none where the operator keeps none', async () => {
    const init = { method: 'POST', headers: { authorization: `Bearer ${KEY}` }, body: JSON.stringify(vote()) }
    const request = new Request('http://edge/v1/feedback', init)
    const response = await createApp().fetch(request, { ...env, FEEDBACK_DAYS: '0' })
    expect(response.status).toBe(404)
    expect(await exported()).toEqual([])
  })
})

describe('what is kept', () => {
  /** `count` votes of one owner, without as many calls. */
  const fill = (owner: string, count: number) =>
    sql(
      `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
      INSERT INTO feedback (owner, id, created_at, record) SELECT ?, 'f' || i, unixepoch(), '{"vote":"up"}' FROM n`,
      count,
      owner,
    )
  const idsOf = async (owner: string) =>
    (await sql('SELECT id FROM feedback WHERE owner = ? ORDER BY number', owner)).map(({ id }) => id)

  it('is bounded for each key, whose oldest go, and only its own', async () => {
    await fill('key:other', 3)
    await fill('key:test', MAX_OF_OWNER)
    await give(vote())
    const kept = await idsOf('key:test')
    expect(kept).toHaveLength(MAX_OF_OWNER)
    expect([kept[0], kept.at(-1)]).toEqual(['f2', 'answer-1'])
    expect(await idsOf('key:other')).toEqual(['f1', 'f2', 'f3'])
  })

  it('is bounded for all keys together', async () => {
    await fill('key:a', 10)
    await fill('key:b', MAX_OF_ALL)
    await runDurableObjectAlarm(feedbackOf(env))
    expect(await idsOf('key:a')).toEqual([])
    expect(await idsOf('key:b')).toHaveLength(MAX_OF_ALL)
  })

  it('has its time: after 90 days it is not exported, and the alarm deletes it', async () => {
    await give(vote())
    await give(vote({ id: 'answer-2' }))
    await sql('UPDATE feedback SET created_at = created_at - ? WHERE id = ?', 90 * 24 * 3600 + 1, 'answer-1')
    expect((await exported()).map(({ id }) => id)).toEqual(['answer-2'])
    expect(await idsOf('key:test')).toHaveLength(2)
    await runDurableObjectAlarm(feedbackOf(env))
    expect(await idsOf('key:test')).toEqual(['answer-2'])
  })

  it('outlives an eviction', async () => {
    await give(vote())
    await abortAllDurableObjects()
    expect(await exported()).toHaveLength(1)
  })

  it('is exported whole, however many pages it has', async () => {
    await fill('key:test', 2 * PAGE_ROWS + 1)
    const lines = await exported()
    expect(new Set(lines.map(({ number }) => number)).size).toBe(2 * PAGE_ROWS + 1)
  })

  it('can be deleted by its owner’s name, by the operator alone', async () => {
    await give(vote())
    expect((await admin('', 'DELETE')).status).toBe(400)
    expect((await call('/admin/v1/feedback?owner=key:test', { method: 'DELETE' })).status).toBe(401)
    expect((await call('/admin/v1/feedback')).status).toBe(401)
    await admin('?owner=key:nobody', 'DELETE')
    expect(await exported()).toHaveLength(1)
    expect((await admin('?owner=key:test', 'DELETE')).status).toBe(204)
    expect(await exported()).toEqual([])
  })
})
