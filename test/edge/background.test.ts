import { abortAllDurableObjects, env, runDurableObjectAlarm, runInDurableObject } from 'cloudflare:test'
import { beforeEach, describe, expect, it, vi } from 'vitest'
import type { BudgetState } from '../../edge/keys/budget/key-budget.ts'
import { limitsOf } from '../../edge/keys/key-limits.ts'
import { MAX_RUNNING, responsesOf } from '../../edge/responses/response-store.ts'
import { recordsOf } from '../../edge/streams/stream-records.ts'
import {
  accepted,
  branchEnd,
  call,
  delta,
  deregister,
  done,
  evict,
  fakeNodeUrl,
  heartbeat,
  newKey,
  register,
  registerTwo,
} from './support.ts'

interface Body {
  id: string
  status: string
  output: { id: string; status: string; content: { text: string }[] }[]
  [member: string]: unknown
}
interface Event {
  type: string
  sequence_number: number
  delta?: string
  response?: Body
}

let owner: { id: string; key: string }

beforeEach(async () => {
  vi.spyOn(console, 'warn').mockImplementation(() => {})
  await registerTwo()
  owner = await newKey()
})

const respond = (steps: unknown[], fields: object = {}, key = owner.key) =>
  call('/v1/responses', {
    ...{ method: 'POST', key },
    json: { model: 'demo', input: JSON.stringify(steps), background: true, ...fields },
  })
const start = async (steps: unknown[], fields: object = {}) => (await respond(steps, fields)).json<Body>()
const get = (path: string, key = owner.key) => call(`/v1/responses/${path}`, { key })
const cancel = (id: string, key = owner.key) => call(`/v1/responses/${id}/cancel`, { method: 'POST', key })
const remove = (id: string) => call(`/v1/responses/${id}`, { method: 'DELETE', key: owner.key })

function until(id: string, status: string): Promise<Body> {
  const read = async () => {
    const body = await (await get(id)).json<Body>()
    expect(body.status).toBe(status)
    return body
  }
  return vi.waitFor(read, { timeout: 20_000, interval: 50 })
}

const settled = () =>
  vi.waitFor(
    async () => {
      const usage = await call('/v1/usage', { key: owner.key })
      expect(await usage.json()).toMatchObject({ open_streams: 0 })
    },
    { timeout: 20_000 },
  )

async function* eventsOf(response: Response): AsyncGenerator<Event, void> {
  if (!response.body) throw new Error('no body')
  let text = ''
  for await (const piece of response.body.pipeThrough(new TextDecoderStream())) {
    text += piece
    const blocks = text.split('\n\n')
    text = blocks.pop() ?? ''
    for (const block of blocks) if (!block.startsWith(':')) yield JSON.parse(block.split('data: ')[1] ?? '')
  }
}

async function all(response: Response): Promise<Event[]> {
  const events: Event[] = []
  for await (const event of eventsOf(response)) events.push(event)
  return events
}

/** The stream of a response that runs, which only its store knows. */
async function streamOf(id: string): Promise<string> {
  const store = responsesOf(env, `key:${owner.id}`)
  const read = async () => {
    const { stream } = JSON.parse((await store.get(id))?.run ?? '{}')
    expect(stream).toMatch(/^[0-9a-f]{64}$/)
    return stream
  }
  return vi.waitFor(read, { timeout: 20_000 })
}

/** The stream that hangs at this step, which has no event yet. */
async function hungStream(name: string): Promise<string> {
  return await (await fetch(`${fakeNodeUrl.replace('ws', 'http')}/hung/${name}`)).text()
}

/** The key's only reservation, once the key's limits have stored it; not the one `before`. */
function storedReservation(before: string): Promise<string> {
  const read = async () => {
    const leases = await runInDurableObject(limitsOf(env, `key:${owner.id}`), (_, { storage }) =>
      storage.kv.get<BudgetState>('budget')?.leases.map(({ id }) => id),
    )
    expect(leases).toEqual([expect.any(String)])
    expect(leases).not.toEqual([before])
    return leases?.[0] ?? ''
  }
  return vi.waitFor(read, { timeout: 20_000, interval: 50 })
}

/** What rows count beside their texts. */
const uncounted = () =>
  runInDurableObject(responsesOf(env, `key:${owner.id}`), (_, { storage }) => {
    const texts = ['input', 'output', 'response', 'run', 'parts'].map(
      (name) => `length(coalesce(${name}, ''))`,
    )
    const rows = storage.sql.exec<{ rest: number }>(
      `SELECT bytes - ${texts.join(' - ')} AS rest FROM response`,
    )
    return rows.toArray().map(({ rest }) => rest)
  })

const short = [accepted, delta(0, 'Hel'), delta(0, 'lo'), branchEnd(0), done()]
/** Ends when the node gets another frame. */
const waiting = [accepted, delta(0, 'Hel'), { await: 'frame' }, branchEnd(0, 'abort'), done('abort')]

describe('a response in the background', () => {
  it('is answered at once, and read later', async () => {
    const first = await start(short, { metadata: { a: 'b' } })
    expect(first).toMatchObject({ status: 'queued', background: true, store: true, output: [], usage: null })
    const ended = await until(first.id, 'completed')
    expect(ended).toMatchObject({
      ...{ id: first.id, created_at: first.created_at, metadata: { a: 'b' }, error: null },
      output: [{ type: 'message', status: 'completed', content: [{ text: 'Hello' }] }],
      usage: { input_tokens: 5, output_tokens: 7 },
    })
    const next = await start(short, { previous_response_id: first.id })
    await until(next.id, 'completed')
    await settled()
  })

  it('keeps what the model has thought, for readers and for the turn behind it', async () => {
    const node = heartbeat()
    const capacity = { ...node.capacity, start_fields: ['separate_reasoning'] }
    await register('thinks', { ...node, capacity, url: `${fakeNodeUrl}/thinks` })
    const thinking = [
      accepted,
      { type: 'reasoning', branch: 0, text: 'Hm.' },
      delta(0, 'Yes'),
      branchEnd(0),
      done(),
    ]
    const { id } = await start(thinking)
    const ended = await until(id, 'completed')
    expect(ended.output).toMatchObject([
      { type: 'reasoning', summary: [], content: [{ type: 'reasoning_text', text: 'Hm.' }] },
      { type: 'message', content: [{ text: 'Yes' }] },
    ])
    const events = await all(await get(`${id}?stream=true`))
    expect(
      events.filter(({ type }) => type.endsWith('.delta')).map(({ type, delta: text }) => [type, text]),
    ).toEqual([
      ['response.reasoning_text.delta', 'Hm.'],
      ['response.output_text.delta', 'Yes'],
    ])
    const next = await start(short, { previous_response_id: id })
    await until(next.id, 'completed')
    await deregister('thinks')
    await settled()
  })

  it('runs without a client, is in progress meanwhile, and cannot be continued yet', async () => {
    const { id } = await start(waiting)
    await streamOf(id)
    await until(id, 'in_progress')
    const early = await respond(short, { previous_response_id: id })
    expect([early.status, await early.json()]).toMatchObject([
      400,
      { error: { param: 'previous_response_id' } },
    ])
    await cancel(id)
  })

  it.each([
    [
      'incomplete',
      [accepted, delta(0, 'Hel'), branchEnd(0, 'length'), done('length')],
      { incomplete_details: { reason: 'max_output_tokens' } },
    ],
    [
      'failed',
      [accepted, delta(0, 'Hel'), { type: 'error', code: 'invalid_request', message: 'no', param: null }],
      { error: { code: 'invalid_request', message: 'no' } },
    ],
  ])('may end as %s, with its text until then', async (status, steps, fields) => {
    const ended = await until((await start(steps)).id, status)
    expect(ended).toMatchObject({ ...fields, output: [{ status: 'incomplete', content: [{ text: 'Hel' }] }] })
  })

  it('that a node refuses has failed', async () => {
    const steps = [{ type: 'error', code: 'context_length_exceeded', message: 'too long', param: 'messages' }]
    const ended = await until((await start(steps)).id, 'failed')
    expect(ended.error).toEqual({ code: 'context_length_exceeded', message: 'too long' })
    await settled()
  })

  it('goes on when everything loses its memory', async () => {
    vi.spyOn(console, 'error').mockImplementation(() => {})
    const steps = [accepted, delta(0, 'Hel'), { await: 'attach' }, delta(0, 'lo'), branchEnd(0), done()]
    const { id } = await start(steps, {})
    const stream = await streamOf(id)
    // The session does not wait until its record is stored.
    await vi.waitFor(async () => expect(await recordsOf(env, stream).get(stream)).toBeDefined())
    await abortAllDurableObjects()
    await runDurableObjectAlarm(responsesOf(env, `key:${owner.id}`))
    expect(await until(id, 'completed')).toMatchObject({ output: [{ content: [{ text: 'Hello' }] }] })
  })

  it('goes on when only its session loses its memory', async () => {
    vi.spyOn(console, 'error').mockImplementation(() => {})
    const { id } = await start([accepted, delta(0, 'Hel'), { await: 'attach' }, ...short.slice(2)])
    await evict(await streamOf(id))
    expect(await until(id, 'completed')).toMatchObject({ output: [{ content: [{ text: 'Hello' }] }] })
    await settled()
  })

  it.each([
    ['restarts', [accepted, delta(0, 'Hel'), { restart: true }], short.slice(2)],
    ['dies', [accepted, delta(0, 'Hel'), { die: true }], short.slice(2)],
    ['restarts before it has begun', [{ restart: true }], short],
    ['dies before it has begun', [{ die: true }], short],
  ])('goes on at another gpu node when its own %s', async (_, first, second) => {
    vi.spyOn(console, 'error').mockImplementation(() => {})
    const { id } = await start([first, second])
    expect(await until(id, 'completed')).toMatchObject({ output: [{ content: [{ text: 'Hello' }] }] })
    await settled()
  })

  it('that had not begun when only its session was lost is started again, with one reservation', async () => {
    vi.spyOn(console, 'error').mockImplementation(() => {})
    owner = await newKey({ limits: { concurrent_streams: 1 } })
    const { id } = await start([
      { hangOnce: `${owner.id}-first` },
      { hangOnce: `${owner.id}-second` },
      ...short,
    ])
    for (const name of ['first', 'second']) await evict(await hungStream(`${owner.id}-${name}`))
    expect(await until(id, 'completed')).toMatchObject({ output: [{ content: [{ text: 'Hello' }] }] })
    await settled()
    const usage = await call('/v1/usage', { key: owner.key })
    expect(await usage.json()).toMatchObject({ tokens_today: 12, reserved_tokens: 0 })
  })

  it('whose session is lost each time before it has begun has failed', async () => {
    vi.spyOn(console, 'error').mockImplementation(() => {})
    const names = ['first', 'second', 'third'].map((name) => `${owner.id}-${name}`)
    const { id } = await start([...names.map((hangOnce) => ({ hangOnce })), ...short])
    for (const name of names) await evict(await hungStream(name))
    expect(await until(id, 'failed')).toMatchObject({ error: { code: 'gpu_node_lost' } })
    await settled()
  })

  it('that had not begun when the edge was restarted, twice, is started again, with one reservation', async () => {
    vi.spyOn(console, 'error').mockImplementation(() => {})
    owner = await newKey({ limits: { concurrent_streams: 1 } })
    const hangs = [`${owner.id}-first`, `${owner.id}-second`]
    const { id } = await start([...hangs.map((hangOnce) => ({ hangOnce })), ...short])
    let reservation = ''
    for (const name of hangs) {
      await get(id)
      await hungStream(name)
      // Until then a restart would forget it, and take no place from the next start.
      reservation = await storedReservation(reservation)
      await abortAllDurableObjects()
    }
    expect(await until(id, 'completed')).toMatchObject({ output: [{ content: [{ text: 'Hello' }] }] })
    await settled()
    const usage = await call('/v1/usage', { key: owner.key })
    expect(await usage.json()).toMatchObject({ tokens_today: 12, reserved_tokens: 0 })
  })

  it('counts its request in what its key stores only while it waits', async () => {
    const { id } = await start(waiting)
    await streamOf(id)
    // Of a row, and of an item.
    expect(await uncounted()).toEqual([512])
    await cancel(id)
    expect(await uncounted()).toEqual([1024])
    await settled()
  })

  it.each([
    ['that is not to be stored', { store: false }, {}, 400, 'background'],
    ['of a key that may store none', {}, { limits: { stored_responses: 0 } }, 400, 'background'],
    ['of a key whose streams are used up', {}, { limits: { concurrent_streams: 1 } }, 429, null],
  ])('is refused: one %s', async (_, fields, settings, status, param) => {
    owner = await newKey(settings)
    const first = await respond(waiting, fields)
    const response = status === 429 ? await respond(waiting, fields) : first
    expect([response.status, await response.json()]).toMatchObject([status, { error: { param } }])
    if (status === 429) await cancel((await first.json<Body>()).id)
    await settled()
  })

  it('is one of a limited number that run at the same time, and needs no tokens when it is refused', async () => {
    const many = await Promise.all(Array.from({ length: MAX_RUNNING + 2 }, () => respond(waiting)))
    expect(many.filter(({ status }) => status === 429)).toHaveLength(2)
    for (const each of many) if (each.status === 200) await cancel((await each.json<Body>()).id)
    await settled()
  })
})

describe('cancel', () => {
  it('ends it at once, with its text until then, also at the gpu node', async () => {
    const { id } = await start(waiting)
    const events = eventsOf(await get(`${id}?stream=true`))
    for await (const { delta: text } of events) if (text === 'Hel') break
    const cancelled = await (await cancel(id)).json<Body>()
    expect(cancelled).toMatchObject({
      ...{ id, status: 'cancelled' },
      output: [{ status: 'incomplete', content: [{ text: 'Hel' }] }],
    })
    await settled()
    expect(await (await cancel(id)).json()).toEqual(cancelled)
    expect(await (await get(id)).json()).toEqual(cancelled)
    // What the gpu node reported, not an estimate: it was cancelled there.
    const usage = await call('/v1/usage', { key: owner.key })
    expect(await usage.json()).toMatchObject({ tokens_today: 12 })
  })

  it('ends one that has not begun', async () => {
    const { id } = await start([{ hang: true }])
    expect(await (await cancel(id)).json()).toMatchObject({ status: 'cancelled', output: [] })
    await settled()
  })

  it('leaves one that has ended as it is, and refuses one that was not in the background', async () => {
    const { id } = await start(short)
    const ended = await until(id, 'completed')
    expect(await (await cancel(id)).json()).toEqual(ended)
    const direct = await start(short, { background: false })
    const refused = await cancel(direct.id)
    expect([refused.status, await refused.json()]).toMatchObject([
      400,
      { error: { message: 'Cannot cancel a synchronous response.' } },
    ])
    const { key } = await newKey()
    expect((await cancel(id, key)).status).toBe(404)
  })

  it('is part of deleting it', async () => {
    const { id } = await start(waiting)
    await streamOf(id)
    expect((await remove(id)).status).toBe(200)
    expect((await get(id)).status).toBe(404)
    await settled()
    const tables = await runInDurableObject(responsesOf(env, `key:${owner.id}`), (_, { storage }) =>
      storage.sql.exec("SELECT name FROM sqlite_master WHERE name = 'response'").toArray(),
    )
    expect(tables).toEqual([])
  })
})

describe('the events of a response in the background', () => {
  const types = [
    ...['created', 'queued', 'in_progress', 'output_item.added', 'content_part.added'],
    ...['output_text.delta', 'output_text.delta', 'output_text.done', 'content_part.done'],
    ...['output_item.done', 'completed'],
  ]

  it('are streamed, and the same ones each time they are read, from any of them on', async () => {
    const events = await all(await respond(short, { stream: true }))
    expect(events.map(({ type }) => type.replace('response.', ''))).toEqual(types)
    expect(events.map(({ sequence_number }) => sequence_number)).toEqual(types.map((_, index) => index))
    const { id = '' } = events[0]?.response ?? {}
    expect(events.at(-1)?.response).toEqual(await (await get(id)).json())
    expect(await all(await get(`${id}?stream=true`))).toEqual(events)
    await abortAllDurableObjects()
    expect(await all(await get(`${id}?stream=true&starting_after=5`))).toEqual(events.slice(6))
    expect(await all(await get(`${id}?stream=true&starting_after=99`))).toEqual([])
    expect(await all(await get(`${id}?stream=true&starting_after=`))).toEqual(events)
  })

  it('go on where a client has disconnected, for several readers at a time', async () => {
    const first: Event[] = []
    for await (const event of eventsOf(await respond(waiting, { stream: true }))) {
      first.push(event)
      if (event.delta === 'Hel') break
    }
    const { id = '' } = first[0]?.response ?? {}
    const after = first.at(-1)?.sequence_number
    const readers = [get(`${id}?stream=true&starting_after=${after}`), get(`${id}?stream=true`)]
    const [late, whole] = (await Promise.all(readers)).map((response) => all(response))
    await cancel(id)
    expect([...first, ...((await late) ?? [])]).toEqual(await whole)
    expect((await whole)?.at(-1)).toMatchObject({
      type: 'response.cancelled',
      response: { status: 'cancelled' },
    })
  })

  it.each([
    ['of a response that was not in the background', false, '?stream=true', 'stream'],
    ['with another word than true or false', true, '?stream=yes', 'stream'],
    ['behind a number below them', true, '?stream=true&starting_after=-2', 'starting_after'],
  ])('are refused: %s', async (_, background, query, param) => {
    const { id } = await start(short, { background })
    const response = await get(id + query)
    expect([response.status, await response.json()]).toMatchObject([400, { error: { param } }])
  })
})
