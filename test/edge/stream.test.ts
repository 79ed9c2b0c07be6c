import { beforeAll, describe, expect, it, vi } from 'vitest'
import {
  accepted,
  branchEnd,
  Client,
  call,
  delta,
  done,
  fork,
  framesSeenByNode,
  KEY,
  register,
} from './support.ts'

const answer = [accepted, delta(0, 'a'), fork(0, 1, 1), delta(1, 'b'), branchEnd(1), branchEnd(0), done()]

async function streamOf(client: Client): Promise<string> {
  const event = await client.next()
  if (event?.type !== 'accepted') throw new Error(`got ${JSON.stringify(event)}`)
  return event.stream
}

beforeAll(async () => {
  expect((await register('relay')).status).toBe(200)
})

describe('GET /v1/stream', () => {
  it('relays every event unchanged and in order, and closes after the last', async () => {
    const client = await Client.generate(answer)
    const events = await client.rest()
    const stream = (events[0] as { stream: string }).stream
    expect(stream).toMatch(/^[0-9a-f]{64}$/)
    expect(events).toEqual(answer.map((event, seq) => ({ seq, stream, ...event })))
  })

  it('sends the request to the node as it was validated', async () => {
    const client = await Client.generate(answer, { temperature: 0.5, branching: { max_depth: 3 } })
    const stream = await streamOf(client)
    const [start] = await framesSeenByNode(stream)
    expect(start).toMatchObject({
      type: 'start',
      stream,
      request: { model: 'demo', temperature: 0.5, branching: { max_depth: 3 } },
    })
    expect(start).not.toHaveProperty('request.type')
  })

  it('cancels upstream when the client leaves', async () => {
    const client = await Client.generate([accepted, { hang: true }])
    const stream = await streamOf(client)
    client.leave()
    const frames = await framesSeenByNode(stream)
    expect(frames.map(({ type }) => type)).toEqual(['start', 'cancel'])
  })

  it('passes cancel on and leaves the last word to the node', async () => {
    const client = await Client.generate([accepted, { await: 'frame' }, done('abort')])
    const stream = await streamOf(client)
    client.send({ type: 'cancel' })
    expect(await client.rest()).toMatchObject([{ type: 'done', reason: 'abort' }])
    expect((await framesSeenByNode(stream))[1]).toEqual({ type: 'cancel' })
  })

  it('passes cancel_branch on and goes on', async () => {
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
    client.send({ type: 'cancel' })
    const stream = await streamOf(client)
    client.leave()
    expect((await framesSeenByNode(stream))[1]).toEqual({ type: 'cancel' })
  })

  it('passes the refusal of a request on', async () => {
    const refusal = { type: 'error', code: 'context_length_exceeded', message: 'too long', param: 'messages' }
    const client = await Client.generate([refusal])
    expect(await client.rest()).toMatchObject([{ ...refusal, seq: 0 }])
  })

  it.each([
    ['the node dies', [accepted, delta(0, 'a'), { die: true }]],
    ['an event is missing', [accepted, delta(0, 'a'), { ...delta(0, 'b'), seq: 7 }]],
    ['an event is malformed', [accepted, delta(0, 'a'), { type: 'delta', branch: 'zero', text: 'b' }]],
    ['the node sends something else', [accepted, delta(0, 'a'), { raw: 'hello' }]],
  ])('ends with gpu_node_lost and the next sequence number when %s', async (_, steps) => {
    const log = vi.spyOn(console, 'error').mockImplementation(() => {})
    const events = await (await Client.generate(steps)).rest()
    expect(events.map(({ seq }) => seq)).toEqual([0, 1, 2])
    expect(events[2]).toMatchObject({ type: 'error', code: 'gpu_node_lost', param: null })
    expect(log).toHaveBeenCalledOnce()
    log.mockRestore()
  })
})

describe('frames that clients get wrong', () => {
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

  it('ends a running stream upstream too', async () => {
    const client = await Client.generate([accepted, { hang: true }])
    const stream = await streamOf(client)
    client.send({ type: 'dance' })
    expect(await client.rest()).toMatchObject([{ type: 'error', seq: 1, code: 'invalid_request' }])
    expect((await framesSeenByNode(stream)).at(-1)).toEqual({ type: 'cancel' })
  })
})

describe('the handshake', () => {
  const upgrade = { upgrade: 'websocket' }

  it('takes a key as a subprotocol and picks the other one', async () => {
    const headers = { ...upgrade, authorization: '', 'sec-websocket-protocol': `apar.v1, apar-key.${KEY}` }
    const response = await call('/v1/stream', { headers })
    expect(response.status).toBe(101)
    expect(response.headers.get('sec-websocket-protocol')).toBe('apar.v1')
    response.webSocket?.accept()
    response.webSocket?.close()
  })

  it('takes no key from the subprotocols of a plain request', async () => {
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
