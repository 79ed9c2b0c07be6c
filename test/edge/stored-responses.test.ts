import { abortAllDurableObjects, env, runDurableObjectAlarm, runInDurableObject } from 'cloudflare:test'
import { beforeEach, describe, expect, it } from 'vitest'
import { createApp } from '../../edge/app.ts'
import { MAX_STORED_BYTES, MAX_VALUE_BYTES, responsesOf } from '../../edge/responses/response-store.ts'
import {
  accepted,
  branchEnd,
  call,
  delta,
  done,
  framesSeenByNode,
  heartbeat,
  newKey,
  register,
} from './support.ts'

interface Stored {
  id: string
  status: string
  store: boolean
  output: { id: string }[]
  [member: string]: unknown
}
interface Page {
  data: { id: string; type: string; role?: string; content?: { text: string }[] }[]
  has_more: boolean
  first_id: string | null
  last_id: string | null
}

const answer = (text: string) => [accepted, delta(0, text), branchEnd(0), done()]
const script = (text: string) => JSON.stringify(answer(text))
const DAY_MS = 24 * 3_600_000

let owner: { id: string; key: string }

beforeEach(async () => {
  const capacity = { branches: 8, blocks: 100, start_fields: ['tool_messages'] }
  await register('stored', heartbeat({ capacity }))
  owner = await newKey()
})

function respond(fields: object = {}, key = owner.key): Promise<Response> {
  return call('/v1/responses', {
    ...{ method: 'POST', key },
    json: { model: 'demo', input: script('Hello'), ...fields },
  })
}
const create = async (fields: object = {}, key = owner.key) => (await respond(fields, key)).json<Stored>()
const get = (path: string, key = owner.key) => call(`/v1/responses/${path}`, { key })
const remove = (id: string, key = owner.key) => call(`/v1/responses/${id}`, { method: 'DELETE', key })
const itemsOf = async (id: string, query = '') => (await get(`${id}/input_items${query}`)).json<Page>()

/** The messages that the gpu node got. */
async function messagesOf({ id }: Stored): Promise<{ role: string; content: string }[]> {
  const [start] = await framesSeenByNode(id.replace('resp_', ''))
  const { messages } = (start?.request ?? {}) as { messages: { role: string; content: string }[] }
  return messages
}

const store = ({ id } = owner) => responsesOf(env, `key:${id}`)
const sql = (text: string, ...values: unknown[]) =>
  runInDurableObject(store(), (_, { storage }) => storage.sql.exec(text, ...values).toArray())
/** As if so much time had passed. */
const age = (ms: number, id: string) =>
  sql('UPDATE response SET expires_at = expires_at - ? WHERE id = ?', ms, id)

async function expectNotFound(response: Response): Promise<void> {
  expect([response.status, await response.json()]).toMatchObject([
    404,
    {
      error: {
        code: 'response_not_found',
        message: expect.stringMatching(/^Response with id '.+' not found/),
      },
    },
  ])
}

describe('a response', () => {
  it('is stored by default, and returned as it was', async () => {
    const created = await create({ metadata: { team: 'a' }, instructions: 'Rhyme.' })
    expect(created).toMatchObject({ store: true, status: 'completed', previous_response_id: null })
    expect(await (await get(created.id)).json()).toEqual(created)
    await abortAllDurableObjects()
    expect(await (await get(created.id)).json()).toEqual(created)
  })

  it('that is streamed is stored before its last event', async () => {
    const text = await (await respond({ stream: true })).text()
    const last = JSON.parse(text.trim().split('data: ').at(-1) ?? '')
    expect(last).toMatchObject({ type: 'response.completed', response: { store: true } })
    expect(await (await get(last.response.id)).json()).toEqual(last.response)
  })

  it.each([
    ['store is false', { store: false }, {}],
    ['the key may store none', {}, { limits: { stored_responses: 0 } }],
  ])('is not stored where %s', async (_, fields, settings) => {
    owner = await newKey(settings)
    const created = await create(fields)
    expect(created.store).toBe(false)
    await expectNotFound(await get(created.id))
  })

  it('is not stored where the operator stores none', async () => {
    const headers = { authorization: `Bearer ${owner.key}` }
    const body = JSON.stringify({ model: 'demo', input: script('Hello'), store: true })
    const request = new Request('http://edge/v1/responses', { method: 'POST', headers, body })
    const context = { waitUntil: () => {}, passThroughOnException: () => {}, props: {} }
    const response = await createApp().fetch(request, { ...env, RESPONSE_DAYS: '0' }, context)
    expect(await response.json()).toMatchObject({ status: 'completed', store: false })
  })

  it('is gone when it is deleted, with all that was stored of it', async () => {
    const { id } = await create()
    const deleted = await remove(id)
    expect([deleted.status, await deleted.json()]).toEqual([200, { id, object: 'response', deleted: true }])
    await expectNotFound(await get(id))
    await expectNotFound(await get(`${id}/input_items`))
    await expectNotFound(await remove(id))
    expect((await respond({ previous_response_id: id })).status).toBe(400)
    const tables = await runInDurableObject(store(), (_, { storage }) => storage.sql.databaseSize)
    const { id: kept } = await create()
    const { id: other } = await create()
    await remove(other)
    expect(await sql('SELECT id FROM response')).toEqual([{ id: kept }])
    expect(await sql('SELECT DISTINCT response FROM item')).toEqual([{ response: kept }])
    expect(tables).toBeLessThan(
      await runInDurableObject(store(), (_, { storage }) => storage.sql.databaseSize),
    )
  })

  it('belongs to its key: another one cannot read, continue, name or delete it', async () => {
    const { id, output } = await create()
    const { key } = await newKey()
    await expectNotFound(await get(id, key))
    await expectNotFound(await get(`${id}/input_items`, key))
    await expectNotFound(await remove(id, key))
    expect((await respond({ previous_response_id: id }, key)).status).toBe(400)
    const named = await respond(
      {
        input: [
          { type: 'item_reference', id: output[0]?.id },
          { role: 'user', content: script('x') },
        ],
      },
      key,
    )
    expect(named.headers.get('x-apar-ignored-fields')).toBe('input.0')
    expect((await get(id)).status).toBe(200)
  })

  it('needs a key that may generate', async () => {
    const { id } = await create()
    expect((await get(id, 'apar_nobody_00000000000000000000')).status).toBe(401)
    const { key } = await newKey({ scopes: ['models'] })
    expect((await get(id, key)).status).toBe(403)
  })
})

describe('previous_response_id', () => {
  it('puts the conversation before the input, without the instructions', async () => {
    const first = await create({
      instructions: 'Rhyme.',
      input: [
        { role: 'developer', content: 'Be short.' },
        { role: 'user', content: script('One') },
      ],
    })
    const second = await create({ previous_response_id: first.id, input: script('Two') })
    expect(second.previous_response_id).toBe(first.id)
    const third = await create({
      previous_response_id: second.id,
      instructions: 'Sing.',
      input: script('Three'),
    })
    expect((await messagesOf(third)).map(({ role, content }) => [role, content])).toEqual([
      ['system', 'Sing.'],
      ['system', 'Be short.'],
      ['user', script('One')],
      ['assistant', 'One'],
      ['user', script('Two')],
      ['assistant', 'Two'],
      ['user', script('Three')],
    ])
  })

  it('may fork a conversation, at the same time', async () => {
    const first = await create()
    const inputs = ['a', 'b', 'c', 'd'].map((text) => script(text))
    const forks = await Promise.all(inputs.map((input) => create({ previous_response_id: first.id, input })))
    for (const [index, fork] of forks.entries())
      expect((await messagesOf(fork)).slice(2)).toMatchObject([{ content: inputs[index] }])
    expect(new Set(forks.map(({ id }) => id)).size).toBe(4)
  })

  it.each([
    ['that never existed', `resp_${'f'.repeat(64)}`, 'previous_response_not_found', 'not found.'],
    ['with an id of another kind', 'chatcmpl-1', 'invalid_request', "begins with 'resp_'"],
  ])('refuses one %s', async (_, id, code, message) => {
    const response = await respond({ previous_response_id: id })
    expect([response.status, await response.json()]).toMatchObject([
      400,
      { error: { code, param: 'previous_response_id', message: expect.stringContaining(message) } },
    ])
  })

  it('names the response that is missing in the middle', async () => {
    const first = await create()
    const second = await create({ previous_response_id: first.id })
    await remove(first.id)
    const response = await respond({ previous_response_id: second.id })
    const { error } = await response.json<{ error: { message: string; code: string } }>()
    expect(error).toMatchObject({ code: 'previous_response_not_found' })
    expect(error.message).toContain(first.id)
    expect(error.message).toContain(second.id)
  })

  it('refuses a conversation that is longer than a body may be', async () => {
    const input = [
      { role: 'user', content: 'x'.repeat(900_000) },
      { role: 'user', content: script('ok') },
    ]
    const first = await create({ input })
    const second = await create({ input, previous_response_id: first.id })
    const third = await create({ input, previous_response_id: second.id })
    expect(await (await respond({ previous_response_id: third.id })).json()).toMatchObject({
      error: { code: 'context_length_exceeded', param: 'previous_response_id' },
    })
  })
})

describe('an item_reference', () => {
  it('stands for the item of a stored answer', async () => {
    const first = await create({ input: script('One') })
    const input = [
      { role: 'user', content: 'Before.' },
      { type: 'item_reference', id: first.output[0]?.id },
      { role: 'user', content: script('Two') },
    ]
    const response = await respond({ input })
    expect(response.headers.get('x-apar-ignored-fields')).toBeNull()
    const second = await response.json<Stored>()
    expect((await messagesOf(second)).map(({ content }) => content)).toEqual([
      'Before.',
      'One',
      script('Two'),
    ])
    // What it stands for is stored with the response that names it.
    await remove(first.id)
    const { data } = await itemsOf(second.id, '?order=asc')
    expect(data.map(({ content }) => content?.[0]?.text)).toEqual(['Before.', 'One', script('Two')])
  })
})

it('an input of items that are not stored has no text', async () => {
  const response = await respond({ input: [{ type: 'item_reference', id: 'msg_none' }] })
  expect([response.status, await response.json()]).toMatchObject([400, { error: { param: 'input' } }])
})

describe('input_items', () => {
  it('are listed in OpenAI’s form, in pages', async () => {
    const { id } = await create({
      input: [
        { role: 'system', content: 'Be short.' },
        { role: 'user', content: [{ type: 'input_text', text: 'Hi' }] },
        { type: 'reasoning', summary: [] },
        { type: 'function_call', call_id: 'call_1', name: 'f', arguments: '{}' },
        { type: 'function_call_output', call_id: 'call_1', output: '5' },
        { role: 'user', content: script('x') },
      ],
    })
    const all = await itemsOf(id, '?order=asc')
    expect(all).toMatchObject({ object: 'list', has_more: false, first_id: all.data[0]?.id })
    expect(all.data).toMatchObject([
      { type: 'message', role: 'system', content: [{ type: 'input_text', text: 'Be short.' }] },
      { type: 'message', role: 'user', content: [{ type: 'input_text', text: 'Hi' }] },
      { type: 'function_call', call_id: 'call_1', name: 'f', arguments: '{}' },
      { type: 'function_call_output', call_id: 'call_1', output: '5' },
      { type: 'message', role: 'user' },
    ])
    const newestFirst = await itemsOf(id)
    expect(newestFirst.data).toEqual([...all.data].reverse())
    const page = await itemsOf(id, '?limit=2')
    expect(page).toMatchObject({ has_more: true, last_id: all.data[3]?.id })
    const next = await itemsOf(id, `?limit=3&after=${page.last_id}`)
    expect([...page.data, ...next.data]).toEqual(newestFirst.data)
    expect((await get(`${id}/input_items?after=none`)).status).toBe(404)
    expect((await get(`${id}/input_items?limit=0`)).status).toBe(400)
  })
})

describe('what is stored', () => {
  it('has its time, which begins again when the conversation goes on; then the alarm deletes it', async () => {
    const first = await create()
    const second = await create()
    await age(30 * DAY_MS - 5000, first.id)
    await create({ previous_response_id: first.id })
    await age(30 * DAY_MS, second.id)
    await expectNotFound(await get(second.id))
    expect((await respond({ previous_response_id: second.id })).status).toBe(400)
    expect((await get(first.id)).status).toBe(200)
    await runDurableObjectAlarm(store())
    expect(await sql('SELECT id FROM response WHERE id IN (?, ?)', first.id, second.id)).toEqual([
      { id: first.id },
    ])
    await sql('UPDATE response SET expires_at = 0')
    await runDurableObjectAlarm(store())
    expect(await runInDurableObject(store(), (_, { storage }) => storage.getAlarm())).toBeNull()
    expect(await sql("SELECT name FROM sqlite_master WHERE name = 'response'")).toEqual([])
  })

  it('is limited in number for each key; what was not used for the longest time makes room', async () => {
    owner = await newKey({ limits: { stored_responses: 2 } })
    const [first, second] = [await create(), await create()]
    await age(1000, second.id)
    await create({ previous_response_id: first.id })
    await expectNotFound(await get(second.id))
    expect((await get(first.id)).status).toBe(200)
  })

  it('is limited in bytes for each key', async () => {
    const { id } = await create()
    await sql('UPDATE response SET bytes = ?', MAX_STORED_BYTES)
    await abortAllDurableObjects()
    const { id: next } = await create()
    await expectNotFound(await get(id))
    expect((await get(next)).status).toBe(200)
    const [{ bytes } = {}] = await sql('SELECT bytes FROM response')
    expect(bytes).toBeGreaterThan(script('Hello').length)
  })

  it('is no input that is too long, which the answer says', async () => {
    const input = [
      ...Array(2).fill({ role: 'user', content: 'x'.repeat(MAX_VALUE_BYTES / 2) }),
      { role: 'user', content: script('ok') },
    ]
    const created = await create({ input })
    expect(created).toMatchObject({ status: 'completed', store: false })
    await expectNotFound(await get(created.id))
  })
})
