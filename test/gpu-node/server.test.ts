import { EventEmitter, once } from 'node:events'
import { connect as dial } from 'node:net'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import WebSocket from 'ws'
import { readCheckpoint } from '../../gpu-node/checkpoint/checkpoint.ts'
import { FINISH } from '../../gpu-node/engine/engine-events.ts'
import { NodeMetrics } from '../../gpu-node/observe/node-metrics.ts'
import { serveRequest } from '../../gpu-node/requests/request-socket.ts'
import { Runner } from '../../gpu-node/requests/runner.ts'
import { ServedStreams } from '../../gpu-node/requests/served-streams.ts'
import { type GpuNodeServer, startServer } from '../../gpu-node/server.ts'
import type { StreamEvent } from '../../shared/protocol/events.ts'
import { MAX_FRAME_CHARS } from '../../shared/protocol/frames.ts'
import { NodeBatch } from '../../shared/protocol/node.ts'
import { inlinePrompts } from '../support/inline-prompts.ts'
import { silent } from '../support/logs.ts'
import { head, SMUGGLED, untilClosed } from '../support/raw-http.ts'
import { ScriptedEngine } from '../support/scripted-engine.ts'
import { type TinyFolder, tinyCheckpoint } from '../support/tiny-checkpoint.ts'

const SECRET = 'the-secret'
const METRICS_SECRET = 'the-metrics-secret'

let folder: TinyFolder
let engine: ScriptedEngine
let runner: Runner
let streams: ServedStreams
let server: GpuNodeServer
let registered: boolean
/** Short, because tests wait until it has passed. */
const GRACE_MS = 50
beforeEach(async () => {
  folder = tinyCheckpoint()
  const checkpoint = readCheckpoint(folder.path)
  runner = await Runner.open({
    model: 'tiny',
    checkpoint,
    prompts: inlinePrompts(checkpoint),
    maxBranches: 8,
    openEngine: async (onEvents) => {
      engine = new ScriptedEngine(onEvents)
      return engine
    },
  })
  streams = new ServedStreams(runner, GRACE_MS)
  const metrics = new NodeMetrics(runner)
  runner.observe(metrics)
  registered = true
  server = await startServer({
    ...{ runner, streams, metrics, log: silent, registered: () => registered },
    ...{ host: '127.0.0.1', port: 0, nodeSecret: SECRET, metricsSecret: METRICS_SECRET },
  })
})
afterEach(async () => {
  await server.close()
  folder.remove()
})

const url = (path = '/v1/requests') => `ws://127.0.0.1:${server.port}${path}`
const bearer = (secret: string) => ({ headers: { authorization: `Bearer ${secret}` } })
const start = JSON.stringify({
  type: 'start',
  stream: 's',
  request: { model: 'tiny', messages: [{ role: 'user', content: 'hi' }] },
})

/** Opens a socket; returns it with the events it receives. */
async function connect(): Promise<{ socket: WebSocket; events: StreamEvent[] }> {
  const socket = new WebSocket(url(), bearer(SECRET))
  const events: StreamEvent[] = []
  socket.on('message', (data) => events.push(...NodeBatch.parse(JSON.parse(String(data))).events))
  await once(socket, 'open')
  return { socket, events }
}

async function refusedWith(path: string, options?: WebSocket.ClientOptions): Promise<number | undefined> {
  const socket = new WebSocket(url(path), options)
  socket.on('error', () => {})
  const [, response] = await once(socket, 'unexpected-response')
  socket.terminate()
  return response.statusCode
}

describe('authorization', () => {
  test.each([
    ['no secret', undefined],
    ['another secret', bearer('another')],
    ['a prefix of the secret', bearer(SECRET.slice(0, 5))],
    ['another scheme', { headers: { authorization: `Basic ${SECRET}` } }],
  ])('refuses %s', async (_, options) => {
    expect(await refusedWith('/v1/requests', options)).toBe(401)
    expect(engine.submitted).toEqual([])
  })

  test('closes the connection of a refused client that keeps it open', async () => {
    const peer = dial({ port: server.port, host: '127.0.0.1', allowHalfOpen: true })
    let response = ''
    peer.on('data', (data) => {
      response += data
    })
    const lines = ['GET /v1/requests HTTP/1.1', 'Host: node', 'Connection: Upgrade', 'Upgrade: websocket', '']
    peer.write(`${lines.join('\r\n')}\r\n`)
    await once(peer, 'end')
    expect(response).toContain('401 Unauthorized')
    // The client's half stays open; the server can still close because it has destroyed its own.
    await server.close()
    peer.destroy()
  })

  test('the secret is valid for no other path', async () => {
    expect(await refusedWith('/v1/other', bearer(SECRET))).toBe(404)
  })
})

describe('a socket', () => {
  test('carries one request from start to done, and closes when the last event is acknowledged', async () => {
    const { socket, events } = await connect()
    socket.send(start)
    await vi.waitFor(() => expect(events.map(({ type }) => type)).toEqual(['accepted']))
    engine.tokens(1, 0, Buffer.from('yes')).end(1, 0).finish(1).deliver()
    await vi.waitFor(() => expect(events).toHaveLength(4))
    socket.send(JSON.stringify({ type: 'ack', seq: 3 }))
    await once(socket, 'close')
    expect(events.map(({ type }) => type)).toEqual(['accepted', 'delta', 'branch_end', 'done'])
    expect(engine.calls).toEqual([])
  })

  test('that is closed by its peer aborts its request after the grace time', async () => {
    const { socket, events } = await connect()
    socket.send(start)
    await vi.waitFor(() => expect(events).toHaveLength(1))
    socket.terminate()
    await vi.waitFor(() => expect(engine.calls).toEqual(['abort 1']))
  })

  test('forwards cancels to the engine', async () => {
    const { socket, events } = await connect()
    socket.send(start)
    socket.send(JSON.stringify({ type: 'cancel_branch', branch: 2 }))
    socket.send(JSON.stringify({ type: 'cancel' }))
    await vi.waitFor(() => expect(engine.calls).toEqual(['abort 1/2', 'abort 1']))
    engine.end(1, 0, FINISH.ABORT).finish(1, FINISH.ABORT).deliver()
    await vi.waitFor(() => expect(events).toHaveLength(3))
    expect(events.at(-1)).toMatchObject({ type: 'done', reason: 'abort' })
  })

  test.each([
    ['no JSON', 'hello', { code: 'invalid_json' }],
    ['a frame of another protocol', '{"type":"hello"}', { code: 'invalid_request', param: 'type' }],
    ['a cancel before start', '{"type":"cancel"}', { code: 'invalid_request' }],
    ['a branch id beyond int32', '{"type":"cancel_branch","branch":1e12}', { param: 'branch' }],
    [
      'a text as long as the edge accepts',
      start.replace('"hi"', `"${'語'.repeat(MAX_FRAME_CHARS)}"`),
      { param: 'request.messages.0.content' },
    ],
    ['a bad request', start.replace('"user"', '"robot"'), { param: 'request.messages.0.role' }],
    ['an unknown field', start.replace('"model"', '"modell":1,"model"'), { param: 'request.modell' }],
    [
      'a log with a gap',
      start.replace(/}$/, ',"log":[{"rows":[],"events":[{"type":"delta","seq":1,"branch":0,"text":"a"}]}]}'),
      { code: 'invalid_request', param: 'log' },
    ],
    ['another model', start.replace('tiny', 'huge'), { code: 'model_not_found', param: 'model' }],
  ])('gets an error for %s', async (_, frame, error) => {
    const { socket, events } = await connect()
    socket.send(frame)
    await once(socket, 'close')
    expect(events).toEqual([expect.objectContaining({ type: 'error', seq: 0, ...error })])
  })

  test('that starts twice ends its request with an error', async () => {
    const { socket, events } = await connect()
    socket.send(start)
    await vi.waitFor(() => expect(events).toHaveLength(1))
    socket.send(start)
    await vi.waitFor(() => expect(events.map(({ type }) => type)).toEqual(['accepted', 'error']))
    expect(events.map(({ seq }) => seq)).toEqual([0, 1])
    expect(engine.calls).toEqual(['abort 1'])
  })

  test('with a frame beyond the limit is closed', async () => {
    const { socket } = await connect()
    socket.send('x'.repeat(16 * MAX_FRAME_CHARS))
    const [code] = await once(socket, 'close')
    expect(code).toBe(1009)
  })

  test('without a first frame is refused after a timeout', () => {
    const sent: string[] = []
    const closed: unknown[] = []
    const silence = Object.assign(new EventEmitter(), {
      bufferedAmount: 0,
      send: (text: string) => sent.push(text),
      close: (code: number) => closed.push(code),
      ping: () => {},
    })
    vi.useFakeTimers()
    serveRequest(silence as unknown as WebSocket, streams, silent)
    vi.advanceTimersByTime(9_999)
    expect(closed).toEqual([])
    vi.advanceTimersByTime(1)
    vi.useRealTimers()
    expect(closed).toEqual([1000])
    expect(JSON.parse(sent[0] ?? '')).toMatchObject({ events: [{ type: 'error', code: 'invalid_request' }] })
  })

  test('whose reader is too slow is closed, and its request aborted', async () => {
    // A fake socket: a real one would need megabytes to fill the kernel's buffers first.
    const closed: unknown[] = []
    const sleeping = Object.assign(new EventEmitter(), {
      bufferedAmount: 2 * 1024 * 1024,
      send: () => {},
      close: (...args: unknown[]) => closed.push(args),
    })
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'setInterval', 'clearInterval'] })
    serveRequest(sleeping as unknown as WebSocket, streams, silent)
    sleeping.emit('message', start, false)
    // The prompt is encoded.
    await new Promise(setImmediate)
    engine.tokens(1, 0, Buffer.from('text')).deliver()
    expect(closed).toEqual([[1013, 'the reader is too slow']])
    expect(engine.calls).toEqual([])
    vi.advanceTimersByTime(GRACE_MS)
    vi.useRealTimers()
    expect(engine.calls).toEqual(['abort 1'])
  })
})

describe('a stream', () => {
  const frame = (fields: object) => JSON.stringify(fields)
  const attach = (after: number, stream = 's') => frame({ type: 'attach', stream, after })

  test('outlives its socket: a new socket receives the events after a number, once and in order', async () => {
    const first = await connect()
    first.socket.send(start)
    await vi.waitFor(() => expect(first.events).toHaveLength(1))
    engine.tokens(1, 0, Buffer.from('a')).deliver()
    engine.tokens(1, 0, Buffer.from('b')).deliver()
    await vi.waitFor(() => expect(first.events).toHaveLength(3))
    first.socket.terminate()
    engine.tokens(1, 0, Buffer.from('c')).deliver()

    const second = await connect()
    second.socket.send(attach(1))
    engine.tokens(1, 0, Buffer.from('d')).deliver()
    await vi.waitFor(() => expect(second.events).toHaveLength(3))
    expect(second.events).toMatchObject([
      { seq: 2, text: 'b' },
      { seq: 3, text: 'c' },
      { seq: 4, text: 'd' },
    ])
    expect(engine.calls).toEqual([])
    second.socket.terminate()
    await vi.waitFor(() => expect(engine.calls).toEqual(['abort 1']))
  })

  test('has one reader: a newer one replaces the older', async () => {
    const first = await connect()
    first.socket.send(start)
    await vi.waitFor(() => expect(first.events).toHaveLength(1))
    const second = await connect()
    second.socket.send(attach(-1))
    expect((await once(first.socket, 'close'))[0]).toBe(1012)
    await vi.waitFor(() => expect(second.events).toHaveLength(1))
  })

  test('is kept after its last event until that is acknowledged', async () => {
    const first = await connect()
    first.socket.send(start)
    await vi.waitFor(() => expect(first.events).toHaveLength(1))
    engine.end(1, 0).finish(1).deliver()
    first.socket.terminate()
    const second = await connect()
    second.socket.send(attach(0))
    await vi.waitFor(() => expect(second.events.at(-1)).toMatchObject({ type: 'done', seq: 2 }))
    second.socket.send(frame({ type: 'ack', seq: 2 }))
    await once(second.socket, 'close')
    const third = await connect()
    third.socket.send(attach(0))
    await once(third.socket, 'close')
    expect(third.events).toMatchObject([{ type: 'error', code: 'stream_not_found' }])
  })

  test('is refused by a draining node, whose drain ends with its last stream', async () => {
    const running = await connect()
    running.socket.send(start)
    await vi.waitFor(() => expect(running.events).toHaveLength(1))
    let drained = false
    const draining = streams.drain(60_000).then(() => {
      drained = true
    })
    expect(await (await fetch(`http://127.0.0.1:${server.port}/healthz`)).json()).toMatchObject({
      status: 'draining',
    })
    const late = await connect()
    late.socket.send(start.replace('"s"', '"t"'))
    await once(late.socket, 'close')
    expect(late.events).toMatchObject([{ type: 'error', code: 'overloaded' }])
    expect(drained).toBe(false)
    engine.end(1, 0).finish(1).deliver()
    await draining
    await vi.waitFor(() => expect(running.events.at(-1)).toMatchObject({ type: 'done', reason: 'stop' }))
  })

  test('is refused after disconnectAll, because the closing engine would abort it', async () => {
    streams.disconnectAll('the gpu node was shut down')
    const { socket, events } = await connect()
    socket.send(start)
    await once(socket, 'close')
    expect(events).toMatchObject([{ type: 'error', code: 'overloaded' }])
    expect(engine.submitted).toEqual([])
  })

  test('that was started again is not deleted when its first start ends', async () => {
    const first = await connect()
    first.socket.send(start)
    await vi.waitFor(() => expect(first.events).toHaveLength(1))
    first.socket.send(frame({ type: 'ack', seq: 9 }))
    const second = await connect()
    second.socket.send(start)
    await once(first.socket, 'close')
    await vi.waitFor(() => expect(second.events).toHaveLength(1))
    // The aborted first request ends late.
    engine.finish(1, FINISH.ABORT).deliver()
    const third = await connect()
    third.socket.send(attach(-1))
    await vi.waitFor(() => expect(third.events.map(({ type }) => type)).toEqual(['accepted']))
  })

  test('that runs beyond the drain deadline is closed with 1012, so that the edge moves it', async () => {
    const { socket, events } = await connect()
    socket.send(start)
    await vi.waitFor(() => expect(events).toHaveLength(1))
    await streams.drain(1)
    streams.disconnectAll('the gpu node was shut down')
    expect((await once(socket, 'close'))[0]).toBe(1012)
    expect(events.map(({ type }) => type)).toEqual(['accepted'])
    expect(engine.calls).toEqual(['abort 1'])
  })
})

test('headers that are too large are refused', async () => {
  const headers = { 'x-padding': 'x'.repeat(17 * 1024) }
  const { status } = await fetch(url('/healthz').replace('ws:', 'http:'), { headers })
  expect(status).toBe(431)
})

test('a request with both Content-Length and Transfer-Encoding gets one answer, and its connection closes', async () => {
  const lengths = ['Content-Length: 5', 'Transfer-Encoding: chunked']
  for (const lines of [lengths, lengths.toReversed()]) {
    const request = head('POST /healthz HTTP/1.1', 'Host: x', ...lines)
    expect(await untilClosed(server.port, `${request}0\r\n\r\n${SMUGGLED}`)).toMatchObject({
      statuses: [400],
    })
  }
})

test('/healthz reports the model and the load', async () => {
  const health = await fetch(`http://127.0.0.1:${server.port}/healthz`)
  expect(health.status).toBe(200)
  expect(await health.json()).toMatchObject({
    ...{ status: 'ok', model: 'tiny', chat: true, load: { free_blocks: 64 } },
  })
  expect((await fetch(`http://127.0.0.1:${server.port}/healthz`, { method: 'POST' })).status).toBe(405)
  expect((await fetch(`http://127.0.0.1:${server.port}/`)).status).toBe(404)
})

test('/healthz returns 503 when the engine has failed', async () => {
  const { socket, events } = await connect()
  socket.send(start)
  await vi.waitFor(() => expect(events).toHaveLength(1))
  engine.finish(1, FINISH.ERROR).deliver('device lost')
  expect((await fetch(`http://127.0.0.1:${server.port}/healthz`)).status).toBe(503)
})

describe('/readyz', () => {
  const ready = async () => {
    const response = await fetch(`http://127.0.0.1:${server.port}/readyz`)
    return [response.status, await response.json()]
  }

  test('returns 200 while the node accepts new requests', async () => {
    const { fingerprint } = runner
    expect(await ready()).toEqual([200, { status: 'ready', reasons: [], fingerprint }])
  })

  test('returns the reasons when the node is not ready', async () => {
    registered = false
    expect(await ready()).toMatchObject([503, { status: 'not_ready', reasons: ['not_registered'] }])
    const { socket, events } = await connect()
    socket.send(start)
    await vi.waitFor(() => expect(events).toHaveLength(1))
    void streams.drain(60_000)
    engine.finish(1, FINISH.ERROR).deliver('device lost')
    const reasons = ['engine_failed', 'draining', 'not_registered']
    expect(await ready()).toMatchObject([503, { status: 'not_ready', reasons }])
  })
})

describe('/metrics', () => {
  const scrape = (secret?: string) =>
    fetch(`http://127.0.0.1:${server.port}/metrics`, secret === undefined ? {} : bearer(secret))

  test('needs the metrics secret, which is valid for nothing else', async () => {
    expect((await scrape()).status).toBe(401)
    expect((await scrape(SECRET)).status).toBe(401)
    const response = await scrape(METRICS_SECRET)
    expect([response.status, response.headers.get('content-type')]).toEqual([
      200,
      'text/plain; version=0.0.4; charset=utf-8',
    ])
    expect(await refusedWith('/v1/requests', bearer(METRICS_SECRET))).toBe(401)
  })

  test('counts requests by outcome, and observes latencies', async () => {
    const { socket, events } = await connect()
    socket.send(start)
    await vi.waitFor(() => expect(events).toHaveLength(1))
    engine.tokens(1, 0, Buffer.from('a')).deliver()
    engine.tokens(1, 0, Buffer.from('bcd')).deliver()
    engine.end(1, 0, FINISH.LENGTH).finish(1).deliver()
    const other = await connect()
    other.socket.send(start.replace('tiny', 'huge'))
    await once(other.socket, 'close')
    const text = await (await scrape(METRICS_SECRET)).text()
    const label = 'model_name="tiny"'
    expect(text).toContain(`apar_request_success_total{finished_reason="length",${label}} 1`)
    expect(text).toContain(`apar_request_success_total{finished_reason="stop",${label}} 0`)
    expect(text).toContain(`apar_requests_refused_total{code="model_not_found",${label}} 1`)
    expect(text).toContain(`apar_time_to_first_token_seconds_count{${label}} 1`)
    // Three gaps: between the first token and the three that came together.
    expect(text).toContain(`apar_inter_token_latency_seconds_count{${label}} 3`)
    expect(text).toContain(`apar_inter_token_latency_seconds_bucket{le="+Inf",${label}} 3`)
    expect(text).toContain(`apar_request_branches_bucket{le="1",${label}} 1`)
  })
})
