import { beforeEach, describe, expect, it, vi } from 'vitest'
import {
  accepted,
  branchEnd,
  Client,
  call,
  delta,
  done,
  evict,
  fork,
  KEY,
  newKey,
  register,
  request,
} from './support.ts'

const forked = [
  accepted,
  delta(0, '1. One:'),
  fork(0, 1, 7),
  delta(0, '\n2. Two:'),
  fork(0, 2, 15),
  delta(2, ' second.'),
  branchEnd(2),
  delta(0, '\nEnd.'),
  branchEnd(0),
  delta(1, ' fir'),
  delta(1, 'st.'),
  branchEnd(1),
  done(),
]

interface SseEvent {
  id: string
  data: string
}

function ask(path: string, body: object, lastEventId = '', key = KEY): Promise<Response> {
  const headers = lastEventId ? { 'last-event-id': lastEventId } : {}
  return call(path, { method: 'POST', json: body, headers, key })
}

async function* eventsOf(response: Response): AsyncGenerator<SseEvent, void> {
  const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader()
  try {
    for (let buffer = ''; reader; ) {
      const { value, done: ended } = await reader.read()
      if (ended) return
      const blocks = (buffer + value).split('\n\n')
      buffer = blocks.pop() ?? ''
      for (const block of blocks) {
        const data = /^data: (.*)$/m.exec(block)?.[1]
        if (data !== undefined) yield { id: /^id: (.*)$/m.exec(block)?.[1] ?? '', data }
      }
    }
  } finally {
    await reader?.cancel()
  }
}

/** Reads at most `most` events, then closes the connection. */
async function read(response: Response, most = Number.POSITIVE_INFINITY): Promise<SseEvent[]> {
  const events: SseEvent[] = []
  for await (const event of eventsOf(response)) {
    events.push(event)
    if (events.length === most) break
  }
  return events
}

const streamOf = ({ id }: SseEvent) => id.replace(/\..*/, '')

const textOf = (events: readonly SseEvent[]) =>
  events
    .filter(({ data }) => data !== '[DONE]')
    .map(({ data }) => JSON.parse(data).choices?.[0]?.delta.content ?? '')
    .join('')

/** The next event of a connection that stays open. */
async function next(events: AsyncGenerator<SseEvent, void>): Promise<SseEvent> {
  const { value } = await events.next()
  if (!value) throw new Error('the answer has ended')
  return value
}

/** Reads an answer, and reconnects with the last id after every `step` events. */
async function readInPieces(path: string, body: object, step: number): Promise<SseEvent[]> {
  const events: SseEvent[] = []
  for (let response = await ask(path, body); ; ) {
    expect(response.status).toBe(200)
    events.push(...(await read(response, step)))
    if (events.at(-1)?.data === '[DONE]') return events
    response = await ask(path, body, events.at(-1)?.id)
  }
}

const withoutNames = (events: SseEvent[]) =>
  events.map(({ data }) => data.replaceAll(/[0-9a-f]{64}/g, 'name'))

beforeEach(async () => {
  await register('sse-resume')
})

const PATH = '/v1/chat/completions'

/** Cancels the stream of the last of these events that has an id. */
function cancel(...events: (SseEvent | SseEvent[])[]): Promise<Response> {
  const named = events.flat().findLast(({ id }) => id !== '')
  return cancelStream(named ? streamOf(named) : '')
}

function cancelStream(stream: string, key = KEY): Promise<Response> {
  return call(`/v1/streams/${stream}`, { method: 'DELETE', key })
}

describe('a stream with apar.resumable', () => {
  const chat = request(forked, { stream: true, apar: { resumable: true } })
  const usage = { stream_options: { include_usage: true } }

  it.each([
    ['chat', '/v1/chat/completions', chat],
    ['chat with usage', '/v1/chat/completions', { ...chat, ...usage }],
    ['two choices', '/v1/chat/completions', { ...chat, ...usage, n: 2 }],
    [
      'completions',
      '/v1/completions',
      { model: 'demo', prompt: JSON.stringify(forked), stream: true, apar: { resumable: true } },
    ],
  ])('%s: arrives once and in order, wherever the connection is lost', async (_, path, body) => {
    const whole = await read(await ask(path, body))
    expect(whole.slice(0, -1).every(({ id }) => id !== '')).toBe(true)
    for (const step of [1, 2, 3]) {
      const pieces = await readInPieces(path, body, step)
      // With several choices only the order within each choice is defined.
      expect(withoutNames(pieces).sort()).toEqual(withoutNames(whole).sort())
      if (!('n' in body)) expect(withoutNames(pieces)).toEqual(withoutNames(whole))
    }
  })

  it('continues while the client is disconnected', async () => {
    const steps = [accepted, delta(0, 'a'), delta(0, 'b'), branchEnd(0), done()]
    const body = request(steps, { stream: true, apar: { resumable: true } })
    const first = await read(await ask('/v1/chat/completions', body), 2)
    const rest = await read(await ask('/v1/chat/completions', body, first.at(-1)?.id))
    expect(textOf([...first, ...rest])).toBe('ab')
  })

  it('refuses a position that the answer does not have', async () => {
    const body = request([accepted, delta(0, 'a'), { await: 'frame' }, branchEnd(0), done()], {
      ...{ stream: true, apar: { resumable: true } },
    })
    const first = await read(await ask(PATH, body), 2)
    const ahead = first.at(-1)?.id.replace(/\d+$/, '99')
    const rest = read(await ask(PATH, body, ahead))
    await cancel(first)
    const last = (await rest).at(-1)
    expect(JSON.parse(last?.data ?? '')).toMatchObject({
      error: { code: 'invalid_request', param: 'last-event-id' },
    })
  })

  /** The node sends 'a', waits for a frame, sends 'b', and ends. */
  const waiting = (reason = 'stop') =>
    request([accepted, delta(0, 'a'), { await: 'frame' }, delta(0, 'b'), branchEnd(0), done(reason)], {
      ...{ stream: true, apar: { resumable: true } },
    })

  it('goes to the newer of two connections, and the older one gets stream_replaced', async () => {
    const older = eventsOf(await ask(PATH, waiting()))
    const first = [await next(older), await next(older)]
    const newer = eventsOf(await ask(PATH, waiting(), first[0]?.id))
    expect(await next(newer)).toEqual(first[1])
    const last = await next(older)
    expect(JSON.parse(last.data)).toMatchObject({ error: { code: 'stream_replaced' } })
    expect((await older.next()).done).toBe(true)
    // The stream still runs: replacing a connection does not cancel it.
    expect((await cancel(last, first)).status).toBe(204)
    const rest = []
    for await (const event of newer) rest.push(event)
    expect(textOf([...first, ...rest])).toBe('ab')
    expect(rest.at(-1)?.data).toBe('[DONE]')
  })

  it('continues on the same connection when its session is evicted', async () => {
    vi.spyOn(console, 'error').mockImplementation(() => {})
    const events = eventsOf(await ask(PATH, waiting()))
    const all = [await next(events), await next(events)]
    await evict(streamOf(all[0] as SseEvent))
    for await (const event of events) all.push(event)
    expect(textOf(all)).toBe('ab')
    expect(all.at(-1)?.data).toBe('[DONE]')
    expect(new Set(all.map(({ id }) => id)).size).toBe(all.length)
  })

  it('is cancelled when the client never got its name', async () => {
    const { key } = await newKey({ limits: { concurrent_streams: 2 } })
    const steps = [
      [accepted, { hang: true }],
      [{ type: 'error', code: 'overloaded', message: 'full', param: null }],
    ]
    // The second choice is refused, and with it the call, while the first one runs already.
    const prompts = steps.map((each) => JSON.stringify(each))
    const body = { model: 'demo', prompt: prompts, stream: true, apar: { resumable: true } }
    expect((await ask('/v1/completions', body, '', key)).status).toBe(503)
    const settled = async () => {
      const usage = await call('/v1/usage', { key })
      expect(await usage.json()).toMatchObject({ open_streams: 0 })
    }
    // Less than the grace time of a stream that may be resumed.
    await vi.waitFor(settled, { timeout: 20_000 })
  })

  it.each([
    ['a stream that never existed', `${'f'.repeat(64)}.1`, 404, 'stream_not_found'],
    ['an invalid name', 'abc.1', 404, 'stream_not_found'],
    ['an id in another format', 'hello', 400, 'invalid_request'],
    ['more choices than were asked for', 'abc.1,abc.2', 400, 'invalid_request'],
  ])('is refused with a code: %s', async (_, id, status, code) => {
    const response = await ask('/v1/chat/completions', chat, id)
    expect(response.status).toBe(status)
    expect(await response.json()).toMatchObject({ error: { code } })
  })

  it('cannot be resumed with another key', async () => {
    const [first] = await read(await ask('/v1/chat/completions', chat), 1)
    const { key } = await newKey()
    expect((await ask('/v1/chat/completions', chat, first?.id, key)).status).toBe(404)
  })

  it('is counted once, however often it is read', async () => {
    const { id, key } = await newKey({ limits: { concurrent_streams: 1 } })
    const [first] = await read(await ask('/v1/chat/completions', chat, '', key), 1)
    await read(await ask('/v1/chat/completions', chat, first?.id, key))
    const response = await call(`/admin/v1/keys/${id}/usage`, { key: 'admin-key-of-the-tests' })
    expect(JSON.stringify(await response.json())).toContain('"completion_tokens":7')
    expect((await ask('/v1/chat/completions', chat, '', key)).status).toBe(200)
  })

  it.each([
    ['apar.resumable without stream', { ...chat, stream: false }, '', 'apar.resumable'],
    [
      'last-event-id without apar.resumable',
      request(forked, { stream: true }),
      `${'f'.repeat(64)}.1`,
      'apar.resumable',
    ],
  ])('is refused: %s', async (_, body, id, param) => {
    const response = await ask('/v1/chat/completions', body, id)
    expect(response.status).toBe(400)
    expect(await response.json()).toMatchObject({ error: { param } })
  })
})

describe('DELETE /v1/streams/{id}', () => {
  const steps = [accepted, delta(0, 'a'), { await: 'frame' }, branchEnd(0, 'abort'), done('abort', 3)]
  const body = request(steps, { stream: true, apar: { resumable: true } })

  it('ends the stream for its reader at once', async () => {
    const events = eventsOf(await ask(PATH, body))
    const first = await next(events)
    expect((await cancelStream(streamOf(first))).status).toBe(204)
    const rest = []
    for await (const event of events) rest.push(event)
    expect(textOf(rest)).toBe('a')
    expect(rest.at(-1)?.data).toBe('[DONE]')
  })

  it('ends it for a disconnected client, which may still read what was generated', async () => {
    const { key } = await newKey({ limits: { concurrent_streams: 1 } })
    const first = await read(await ask(PATH, body, '', key), 2)
    const stream = streamOf(first[0] as SseEvent)
    expect((await cancelStream(stream, key)).status).toBe(204)
    const settled = async () => {
      const usage = await call('/v1/usage', { key })
      // The usage that the gpu node reported, not an estimate: the stream was cancelled properly.
      expect(await usage.json()).toMatchObject({ open_streams: 0, tokens_today: 8 })
    }
    await vi.waitFor(settled, { timeout: 20_000 })
    expect((await cancelStream(stream, key)).status).toBe(204)
    const rest = await read(await ask(PATH, body, first.at(-1)?.id, key))
    expect(textOf([...first, ...rest])).toBe('a')
    expect(rest.at(-1)?.data).toBe('[DONE]')
  })

  it('restores a session that was evicted', async () => {
    vi.spyOn(console, 'error').mockImplementation(() => {})
    const first = await read(await ask(PATH, body), 2)
    const stream = streamOf(first[0] as SseEvent)
    await evict(stream)
    expect((await cancelStream(stream)).status).toBe(204)
    const rest = await read(await ask(PATH, body, first.at(-1)?.id))
    expect(rest.at(-1)?.data).toBe('[DONE]')
  })

  it('ends a stream that was begun over WebSocket, too', async () => {
    const client = await Client.generate(steps)
    const event = await client.next()
    if (event?.type !== 'accepted') throw new Error('the stream was not accepted')
    expect((await cancelStream(event.stream)).status).toBe(204)
    expect((await client.rest()).at(-1)).toMatchObject({ type: 'done', reason: 'abort' })
  })

  it('finds only streams of the same key', async () => {
    const events = eventsOf(await ask(PATH, body))
    const stream = streamOf(await next(events))
    const { key } = await newKey()
    const refused = await cancelStream(stream, key)
    expect(refused.status).toBe(404)
    expect(await refused.json()).toMatchObject({ error: { code: 'stream_not_found' } })
    expect((await cancelStream(stream)).status).toBe(204)
    for await (const _ of events);
  })

  it.each([
    ['a stream that never existed', 'f'.repeat(64)],
    ['an invalid name', 'hello'],
  ])('answers stream_not_found: %s', async (_, stream) => {
    const response = await cancelStream(stream)
    expect(response.status).toBe(404)
    expect(await response.json()).toMatchObject({ error: { code: 'stream_not_found' } })
  })
})
