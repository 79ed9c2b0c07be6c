import { beforeEach, describe, expect, it } from 'vitest'
import { accepted, branchEnd, call, delta, done, fork, KEY, newKey, register, request } from './support.ts'

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

/** At most `most` events, then the connection is dropped; as an EventSource does, it keeps the last id. */
async function read(response: Response, most = Number.POSITIVE_INFINITY): Promise<SseEvent[]> {
  const events: SseEvent[] = []
  const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader()
  let buffer = ''
  while (reader && events.length < most) {
    const { value, done: ended } = await reader.read()
    if (ended) break
    buffer += value
    const blocks = buffer.split('\n\n')
    buffer = blocks.pop() ?? ''
    for (const block of blocks) {
      const data = /^data: (.*)$/m.exec(block)?.[1]
      if (data !== undefined) events.push({ id: /^id: (.*)$/m.exec(block)?.[1] ?? '', data })
    }
  }
  await reader?.cancel()
  return events.slice(0, most)
}

/** Reads an answer that is dropped after every `step` events. */
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
  ])('%s: comes once and in order, wherever it is dropped', async (_, path, body) => {
    const whole = await read(await ask(path, body))
    expect(whole.slice(0, -1).every(({ id }) => id !== '')).toBe(true)
    for (const step of [1, 2, 3]) {
      const pieces = await readInPieces(path, body, step)
      // Choices are independent: only the order within each is given.
      expect(withoutNames(pieces).sort()).toEqual(withoutNames(whole).sort())
      if (!('n' in body)) expect(withoutNames(pieces)).toEqual(withoutNames(whole))
    }
  })

  it('goes on while the client is away', async () => {
    const steps = [accepted, delta(0, 'a'), delta(0, 'b'), branchEnd(0), done()]
    const body = request(steps, { stream: true, apar: { resumable: true } })
    const first = await read(await ask('/v1/chat/completions', body), 2)
    const rest = await read(await ask('/v1/chat/completions', body, first.at(-1)?.id))
    const text = [...first, ...rest].flatMap(({ data }) => {
      return data === '[DONE]' ? [] : [JSON.parse(data).choices[0]?.delta.content ?? '']
    })
    expect(text.join('')).toBe('ab')
  })

  it.each([
    ['a stream that never was', `${'f'.repeat(64)}.1`, 404, 'stream_not_found'],
    ['no name of a stream', 'abc.1', 404, 'stream_not_found'],
    ['no id of ours', 'hello', 400, 'invalid_request'],
    ['more choices than were asked for', 'abc.1,abc.2', 400, 'invalid_request'],
  ])('is refused with a code: %s', async (_, id, status, code) => {
    const response = await ask('/v1/chat/completions', chat, id)
    expect(response.status).toBe(status)
    expect(await response.json()).toMatchObject({ error: { code } })
  })

  it('is not for another key', async () => {
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
    ['without stream', { ...chat, stream: false }, '', 'apar.resumable'],
    ['an id without it', request(forked, { stream: true }), `${'f'.repeat(64)}.1`, 'apar.resumable'],
  ])('wants both: %s', async (_, body, id, param) => {
    const response = await ask('/v1/chat/completions', body, id)
    expect(response.status).toBe(400)
    expect(await response.json()).toMatchObject({ error: { param } })
  })
})
