import { env } from 'cloudflare:test'
import { beforeEach, describe, expect, it, vi } from 'vitest'
import {
  accepted,
  age,
  branchEnd,
  Client,
  call,
  delta,
  done,
  evict,
  fork,
  framesSeenByNode,
  KEY,
  registerTwo,
  SLOW_KEY,
} from './support.ts'

const answer = [accepted, delta(0, 'a'), fork(0, 1, 1), delta(1, 'b'), branchEnd(1), branchEnd(0), done()]

/** The events as the client gets them. */
function numbered(events: readonly object[], stream: string) {
  return events.map((event, seq) => ({ seq, ...(event === accepted ? { stream } : {}), ...event }))
}

async function streamOf(client: Client): Promise<string> {
  const event = await client.next()
  if (event?.type !== 'accepted') throw new Error(`got ${JSON.stringify(event)}`)
  return event.stream
}

beforeEach(async () => {
  await registerTwo()
})

describe('GET /v1/stream', () => {
  it('relays every event unchanged and in order, and closes after the last', async () => {
    const client = await Client.generate(answer)
    const events = await client.rest()
    const stream = (events[0] as { stream: string }).stream
    expect(stream).toMatch(/^[0-9a-f]{64}$/)
    expect(events).toEqual(numbered(answer, stream))
  })

  it('sends the request to the node as it was validated', async () => {
    const client = await Client.generate(answer, { temperature: 0.5, branching: { max_depth: 3 } })
    const stream = await streamOf(client)
    client.close()
    const [start] = await framesSeenByNode(stream)
    expect(start).toMatchObject({
      type: 'start',
      stream,
      request: { model: 'demo', temperature: 0.5, branching: { max_depth: 3 } },
    })
    expect(start).not.toHaveProperty('request.type')
  })

  it('cancels upstream when the client closes', async () => {
    const client = await Client.generate([accepted, { hang: true }])
    const stream = await streamOf(client)
    client.close()
    const frames = await framesSeenByNode(stream)
    expect(frames.map(({ type }) => type)).toEqual(['start', 'cancel', 'ack'])
  })

  it('passes cancel on, and the node sends the last event', async () => {
    const client = await Client.generate([accepted, { await: 'frame' }, done('abort')])
    const stream = await streamOf(client)
    client.send({ type: 'cancel' })
    expect(await client.rest()).toMatchObject([{ type: 'done', reason: 'abort' }])
    expect((await framesSeenByNode(stream))[1]).toEqual({ type: 'cancel' })
  })

  it('passes cancel_branch on, and the stream continues', async () => {
    const client = await Client.generate([accepted, fork(0, 1, 0), { await: 'frame' }, ...answer.slice(-3)])
    const stream = await streamOf(client)
    client.send({ type: 'cancel_branch', branch: 1 })
    expect((await client.rest()).map(({ type }) => type)).toEqual([
      'fork',
      'branch_end',
      'branch_end',
      'done',
    ])
    expect((await framesSeenByNode(stream))[1]).toEqual({ type: 'cancel_branch', branch: 1 })
  })

  it('sends a cancel that came before the node was reached', async () => {
    const client = await Client.open()
    client.send({
      type: 'generate',
      model: 'demo',
      messages: [{ role: 'user', content: JSON.stringify([accepted, { await: 'frame' }, done('abort')]) }],
    })
    // Ignored: there are no branches yet.
    client.send({ type: 'cancel_branch', branch: 1 })
    client.send({ type: 'cancel' })
    client.send({ type: 'cancel' })
    const stream = await streamOf(client)
    client.close()
    expect((await framesSeenByNode(stream))[1]).toEqual({ type: 'cancel' })
  })

  it('passes the refusal of a request on', async () => {
    const refusal = { type: 'error', code: 'context_length_exceeded', message: 'too long', param: 'messages' }
    const client = await Client.generate([refusal])
    expect(await client.rest()).toMatchObject([{ ...refusal, seq: 0 }])
  })

  it.each([
    ['the node dies', { die: true }],
    ['the node restarts', { restart: true }],
    ['an event is missing', { ...delta(0, 'b'), seq: 7 }],
    ['an event is malformed', { type: 'delta', branch: 'zero', text: 'b' }],
    ['the node sends something else', { raw: 'hello' }],
    ['the engine fails', { type: 'error', code: 'engine_error', message: 'device lost', param: null }],
  ])('moves the stream with its log when %s', async (_, trouble) => {
    const log = vi.spyOn(console, 'error').mockImplementation(() => {})
    const begun = [accepted, delta(0, 'a'), fork(0, 1, 1)]
    const rest = [delta(1, 'b'), branchEnd(1), branchEnd(0), done()]
    const client = await Client.generate([[...begun, trouble], rest], { temperature: 1 })
    const events = await client.rest()
    const { stream } = events[0] as { stream: string }
    expect(events).toEqual(numbered([...begun, ...rest], stream))
    const frames = await framesSeenByNode(stream)
    const starts = frames.filter(({ type }) => type === 'start')
    expect(starts).toHaveLength(2)
    // The new node gets the same request, seed included, and the old node's events with their engine rows.
    expect(starts[1]?.request).toEqual(starts[0]?.request)
    expect(starts[0]).toMatchObject({ log: [], request: { seed: expect.any(Number) } })
    expect(starts[1]?.log).toEqual(
      events.slice(0, 3).map((event, seq) => ({ rows: [1, 0, seq + 1, 0], events: [event] })),
    )
    log.mockRestore()
  })

  it('continues on the same node when only the connection was lost', async () => {
    const log = vi.spyOn(console, 'error').mockImplementation(() => {})
    const steps = [accepted, delta(0, 'a'), { drop: true }, delta(0, 'b'), branchEnd(0), done()]
    const client = await Client.generate(steps)
    const events = await client.rest()
    expect(events.map(({ seq }) => seq)).toEqual([0, 1, 2, 3, 4])
    const frames = await framesSeenByNode((events[0] as { stream: string }).stream)
    expect(frames.slice(0, 2)).toMatchObject([{ type: 'start' }, { type: 'attach', after: 1 }])
    log.mockRestore()
  })

  it('sends a cancel again to the node that the stream has moved to', async () => {
    const log = vi.spyOn(console, 'error').mockImplementation(() => {})
    const client = await Client.generate([
      [accepted, { await: 'frame' }, { die: true }],
      [{ await: 'frame' }, done('abort')],
    ])
    const stream = await streamOf(client)
    client.send({ type: 'cancel' })
    expect(await client.rest()).toMatchObject([{ type: 'done', reason: 'abort', seq: 1 }])
    const types = (await framesSeenByNode(stream)).map(({ type }) => type)
    expect(types.slice(0, 2)).toEqual(['start', 'cancel'])
    expect(types.slice(types.lastIndexOf('start'))).toEqual(['start', 'cancel', 'ack'])
    log.mockRestore()
  })

  it('ends with gpu_node_lost, and keeps the text so far, when no node can continue', async () => {
    const log = vi.spyOn(console, 'error').mockImplementation(() => {})
    const client = await Client.generate([[accepted, delta(0, 'a'), { die: true }], [{ die: true }]])
    const events = await client.rest()
    expect(events).toMatchObject([
      { type: 'accepted', seq: 0 },
      { type: 'delta', seq: 1 },
      { type: 'error', code: 'gpu_node_lost', param: null, seq: 2 },
    ])
    log.mockRestore()
  })
})

describe('a client that resumes', () => {
  it('gets the events that it does not have, once and in order', async () => {
    const steps = [accepted, delta(0, 'a'), delta(0, 'b'), { await: 'frame' }, branchEnd(0), done()]
    const first = await Client.generate(steps)
    const stream = await streamOf(first)
    expect(await first.next()).toMatchObject({ seq: 1 })
    first.disconnect()
    const second = await Client.resume(stream, 1)
    expect(await second.next()).toMatchObject({ seq: 2, text: 'b' })
    second.send({ type: 'cancel_branch', branch: 3 })
    expect((await second.rest()).map(({ seq }) => seq)).toEqual([3, 4])
  })

  it('replaces its older connection', async () => {
    const first = await Client.generate([accepted, { await: 'frame' }, done('abort')])
    const stream = await streamOf(first)
    const second = await Client.resume(stream, 0)
    expect(await first.next()).toBeUndefined()
    second.send({ type: 'cancel' })
    expect(await second.rest()).toMatchObject([{ type: 'done', seq: 1 }])
  })

  it('gets an answer that ended while it was disconnected', async () => {
    const first = await Client.generate([accepted, { await: 'frame' }, branchEnd(0), done()])
    const stream = await streamOf(first)
    first.send({ type: 'cancel_branch', branch: 1 })
    first.disconnect()
    const second = await Client.resume(stream, 0)
    expect((await second.rest()).map(({ type }) => type)).toEqual(['branch_end', 'done'])
  })

  it('gets its stream from a session that was restarted', async () => {
    const log = vi.spyOn(console, 'error').mockImplementation(() => {})
    const steps = [accepted, delta(0, 'a'), delta(0, 'b'), { await: 'frame' }, branchEnd(0), done()]
    const first = await Client.generate(steps)
    const stream = await streamOf(first)
    await evict(stream)
    const second = await Client.resume(stream, 1)
    const events = await second.rest()
    expect(events.map(({ seq }) => seq)).toEqual([2, 3, 4])
    const frames = await framesSeenByNode(stream)
    expect(frames.filter(({ type }) => type === 'attach').at(-1)).toMatchObject({ after: -1 })
    log.mockRestore()
  })

  it('finds the stream of a session that was restarted for a few minutes', async () => {
    const log = vi.spyOn(console, 'error').mockImplementation(() => {})
    const first = await Client.generate([accepted, delta(0, 'a'), { hang: true }])
    const stream = await streamOf(first)
    for (let round = 0; round < 2; round++) {
      await evict(stream)
      await age(stream, 170_000)
      const back = await Client.resume(stream, 0)
      expect(await back.next()).toMatchObject({ type: 'delta', seq: 1 })
    }
    await evict(stream)
    await age(stream, 190_000)
    const late = await Client.resume(stream, 0)
    expect(await late.rest()).toMatchObject([{ type: 'error', code: 'stream_not_found' }])
    log.mockRestore()
  })

  it('gets gpu_node_lost when session and node have both lost the stream', async () => {
    const log = vi.spyOn(console, 'error').mockImplementation(() => {})
    const first = await Client.generate([accepted, delta(0, 'a'), { await: 'frame' }, { die: true }])
    const stream = await streamOf(first)
    await evict(stream)
    const second = await Client.resume(stream, 1)
    expect(await second.rest()).toMatchObject([{ type: 'error', code: 'gpu_node_lost', seq: 2 }])
    log.mockRestore()
  })

  it.each([
    ['a stream that never existed', async () => String(env.STREAM_SESSION.newUniqueId()), KEY],
    [
      'a stream of another key',
      async () => streamOf(await Client.generate([accepted, { hang: true }])),
      SLOW_KEY,
    ],
    ['a stream that it has read to the end', async () => finished(), KEY],
  ])('gets stream_not_found: %s', async (_, name, key) => {
    const client = await Client.resume(await name(), 4, key)
    expect(await client.rest()).toMatchObject([{ type: 'error', code: 'stream_not_found', seq: 5 }])
  })

  it('is refused at the handshake when the name of the stream is invalid', async () => {
    const response = await call('/v1/stream?stream=nope&after=1', { headers: { upgrade: 'websocket' } })
    expect(response.status).toBe(404)
  })

  it('is refused at the handshake when it names no stream', async () => {
    const response = await call('/v1/stream?after=1', { headers: { upgrade: 'websocket' } })
    expect(response.status).toBe(400)
    expect(await response.json()).toMatchObject({ error: { param: 'after' } })
  })

  async function finished(): Promise<string> {
    const client = await Client.generate(answer)
    const stream = await streamOf(client)
    await client.rest()
    await framesSeenByNode(stream)
    return stream
  }
})

describe('invalid frames', () => {
  async function errorFor(...frames: unknown[]) {
    const client = await Client.open()
    for (const frame of frames) client.send(frame)
    return (await client.rest()).at(-1)
  }
  const messages = [{ role: 'user', content: JSON.stringify([accepted, { hang: true }]) }]

  it.each([
    ['not JSON', ['{'], 'invalid_json', null],
    ['unknown type', [{ type: 'dance' }], 'invalid_request', 'type'],
    [
      'bad role',
      [{ type: 'generate', model: 'demo', messages: [{ role: 'cat', content: '' }] }],
      'invalid_request',
      'messages.0.role',
    ],
    ['unknown field', [{ type: 'generate', model: 'demo', messages, loud: true }], 'invalid_request', 'loud'],
    ['cancel first', [{ type: 'cancel' }], 'invalid_request', null],
    ['two requests', Array(2).fill({ type: 'generate', model: 'demo', messages }), 'invalid_request', null],
    ['a huge frame', ['x'.repeat(2 * 1024 * 1024 + 1)], 'body_too_large', null],
    ['unknown model', [{ type: 'generate', model: 'nope', messages }], 'model_not_found', 'model'],
  ])('%s', async (_, frames, code, param) => {
    expect(await errorFor(...frames)).toMatchObject({ type: 'error', code, param })
  })

  it('end a running stream upstream, too', async () => {
    const client = await Client.generate([accepted, { hang: true }])
    const stream = await streamOf(client)
    client.send({ type: 'dance' })
    expect(await client.rest()).toMatchObject([{ type: 'error', seq: 1, code: 'invalid_request' }])
    expect((await framesSeenByNode(stream))[1]).toEqual({ type: 'cancel' })
  })
})

describe('the handshake', () => {
  const upgrade = { upgrade: 'websocket' }

  it('accepts a key as a subprotocol, and answers with the other subprotocol', async () => {
    const headers = { ...upgrade, authorization: '', 'sec-websocket-protocol': `apar.v1, apar-key.${KEY}` }
    const response = await call('/v1/stream', { headers })
    expect(response.status).toBe(101)
    expect(response.headers.get('sec-websocket-protocol')).toBe('apar.v1')
    response.webSocket?.accept()
    response.webSocket?.close()
  })

  it('accepts no key from the subprotocols of a plain request', async () => {
    const headers = { authorization: '', 'sec-websocket-protocol': `apar-key.${KEY}` }
    expect((await call('/v1/models', { headers })).status).toBe(401)
  })

  it('refuses a wrong key, another subprotocol, and plain GET', async () => {
    expect((await call('/v1/stream', { headers: upgrade, key: `${KEY}x` })).status).toBe(401)
    const other = await call('/v1/stream', {
      headers: { ...upgrade, 'sec-websocket-protocol': 'graphql-ws' },
    })
    expect(other.status).toBe(400)
    const plain = await call('/v1/stream')
    expect(plain.status).toBe(426)
    expect(plain.headers.get('upgrade')).toBe('websocket')
  })
})
