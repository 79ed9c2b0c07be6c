import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import WebSocket, { WebSocketServer } from 'ws'
import { openStream, resumeStream, type StreamOptions } from '../../client/index.ts'
import type { StreamEvent } from '../../shared/protocol/events.ts'
import type { ClientFrame } from '../../shared/protocol/frames.ts'

/** A fake edge, scripted by each test. */
let http: Server
let sockets: WebSocketServer
let frames: ClientFrame[]
let offered: string[]
let onFrame: (frame: ClientFrame, send: (event: object) => void, socket: WebSocket) => void
let refusal: { status: number; body: string } | undefined

beforeEach(async () => {
  frames = []
  offered = []
  refusal = undefined
  onFrame = () => {}
  http = createServer((_, response) => {
    response.writeHead(refusal?.status ?? 200, { 'retry-after': '7' }).end(refusal?.body ?? '{"data":[]}')
  })
  sockets = new WebSocketServer({ noServer: true })
  http.on('upgrade', (request, socket, head) => {
    if (refusal) {
      socket.end(`HTTP/1.1 ${refusal.status} No\r\ncontent-length: 0\r\n\r\n`)
      return
    }
    offered = (request.headers['sec-websocket-protocol'] ?? '').split(/, */)
    sockets.handleUpgrade(request, socket, head, (accepted) => {
      accepted.on('message', (data) => {
        const frame = JSON.parse(String(data)) as ClientFrame
        frames.push(frame)
        onFrame(frame, (event) => accepted.send(JSON.stringify(event)), accepted)
      })
    })
  })
  http.listen(0, '127.0.0.1')
  await once(http, 'listening')
})
afterEach(() => {
  for (const socket of sockets.clients) socket.terminate()
  http.closeAllConnections()
  http.close()
})

const request = { model: 'm', messages: [{ role: 'user' as const, content: 'hi' }] }

function open(more: Partial<StreamOptions> = {}) {
  const baseUrl = `http://127.0.0.1:${(http.address() as AddressInfo).port}`
  return openStream({ baseUrl, apiKey: 'apar_k_secret', request, WebSocket, ...more })
}

const accepted = { type: 'accepted', seq: 0, version: 1, stream: 's', model: 'm', joints: 'kept', created: 1 }
const usage = {
  prompt_tokens: 1,
  cached_prompt_tokens: 0,
  completion_tokens: 2,
  total_tokens: 3,
  branches: [],
}
const done = (seq: number, reason = 'stop') => ({ type: 'done', seq, reason, usage })

/** Root "1. a:" + child " b" + root " 2." */
const forked = [
  accepted,
  { type: 'delta', seq: 1, branch: 0, text: '1. a:' },
  { type: 'fork', seq: 2, branch: 1, parent: 0, at: 5 },
  { type: 'delta', seq: 3, branch: 0, text: ' 2.' },
  { type: 'delta', seq: 4, branch: 1, text: ' b' },
  done(5),
]

describe('a stream', () => {
  test('sends the request with key and protocol, yields every event, and keeps the tree', async () => {
    onFrame = (_, send) => forked.forEach(send)
    const stream = open()
    const events: StreamEvent[] = []
    for await (const event of stream) events.push(event)
    expect(events).toEqual(forked)
    expect(frames).toEqual([{ type: 'generate', ...request }])
    expect(offered).toEqual(['apar.v1', 'apar-key.apar_k_secret'])
    expect(stream.tree.branches()).toHaveLength(2)
    expect(await stream.text()).toBe('1. a: b 2.')
  })

  test('returns its text without being iterated', async () => {
    onFrame = (_, send) => forked.forEach(send)
    expect(await open().text()).toBe('1. a: b 2.')
  })

  test('delivers earlier events, then fails with the error that the edge sent', async () => {
    onFrame = (_, send) => {
      send(accepted)
      send({ type: 'error', seq: 1, code: 'model_not_found', message: 'no such model', param: 'model' })
    }
    const stream = open()
    const seen: string[] = []
    const reading = (async () => {
      for await (const { type } of stream) seen.push(type)
    })()
    await expect(reading).rejects.toMatchObject({ code: 'model_not_found', param: 'model' })
    await expect(stream.text()).rejects.toMatchObject({ code: 'model_not_found' })
    expect(seen).toEqual(['accepted'])
  })

  test('fails when the connection is lost', async () => {
    onFrame = (_, send, socket) => {
      send(accepted)
      socket.terminate()
    }
    await expect(open({ reconnectMs: 0 }).text()).rejects.toMatchObject({ code: 'gpu_node_lost' })
  })

  test('fails on a frame of another protocol', async () => {
    onFrame = (_, __, socket) => socket.send('hello')
    await expect(open().text()).rejects.toMatchObject({ code: 'internal_error' })
  })

  test('reports why a handshake was refused, which a WebSocket does not', async () => {
    const error = { message: 'slow down', type: 'rate_limit_error', param: null, code: 'rate_limit_exceeded' }
    refusal = { status: 429, body: JSON.stringify({ error }) }
    await expect(open().text()).rejects.toMatchObject({ code: 'rate_limit_exceeded', retryAfterSeconds: 7 })
  })

  test('that is to be resumed, and is refused by an edge that takes the key, is not there', async () => {
    refusal = { status: 200, body: '{"data": []}' }
    const baseUrl = `http://127.0.0.1:${(http.address() as AddressInfo).port}`
    const position = { stream: 'typo', after: 3, events: [] }
    const stream = resumeStream({ baseUrl, apiKey: 'apar_k_secret', WebSocket, position })
    await expect(stream.text()).rejects.toMatchObject({ code: 'stream_not_found' })
  })
})

describe('cancelling', () => {
  beforeEach(() => {
    onFrame = (frame, send) => {
      if (frame.type === 'generate') send(accepted)
      if (frame.type === 'cancel') send(done(1, 'abort'))
    }
  })

  test('ends the stream with reason abort', async () => {
    const stream = open()
    const events: StreamEvent[] = []
    for await (const event of stream) {
      events.push(event)
      if (event.type === 'accepted') stream.cancel()
    }
    expect(events.at(-1)).toMatchObject({ type: 'done', reason: 'abort' })
  })

  test('works through a signal, also before the connection is open', async () => {
    const signal = AbortSignal.abort()
    const events: StreamEvent[] = []
    for await (const event of open({ signal })) events.push(event)
    expect(frames.map(({ type }) => type)).toEqual(['generate', 'cancel'])
    expect(events.at(-1)).toMatchObject({ reason: 'abort' })
  })

  test('happens when the reader leaves the loop', async () => {
    for await (const _ of open()) break
    await expect.poll(() => frames.map(({ type }) => type)).toEqual(['generate', 'cancel'])
  })

  test('of one branch does not cancel the others', async () => {
    onFrame = (frame, send) => {
      if (frame.type === 'generate') send(accepted)
      else send(done(1))
    }
    const stream = open()
    for await (const event of stream) if (event.type === 'accepted') stream.cancelBranch(2)
    expect(frames[1]).toEqual({ type: 'cancel_branch', branch: 2 })
  })
})
