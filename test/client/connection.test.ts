import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import WebSocket, { WebSocketServer } from 'ws'
import { type Connection, openConnection } from '../../client/index.ts'
import type { MultiplexedFrame } from '../../shared/protocol/multiplex.ts'

/** A fake edge, scripted by each test. */
let http: Server
let sockets: WebSocketServer
let frames: MultiplexedFrame[]
let onFrame: (frame: MultiplexedFrame, send: (event: object) => void, socket: WebSocket) => void
let connection: Connection
let accept: boolean

beforeEach(async () => {
  frames = []
  onFrame = () => {}
  accept = true
  http = createServer((_, response) => {
    const error = { message: 'no', type: 'authentication_error', param: null, code: 'invalid_api_key' }
    response.writeHead(401).end(JSON.stringify({ error }))
  })
  sockets = new WebSocketServer({ noServer: true, handleProtocols: ([first]) => first ?? false })
  http.on('upgrade', (upgrade, socket, head) => {
    if (!accept) {
      socket.end('HTTP/1.1 401 No\r\ncontent-length: 0\r\n\r\n')
      return
    }
    sockets.handleUpgrade(upgrade, socket, head, (accepted) => {
      accepted.on('message', (data) => {
        const frame = JSON.parse(String(data)) as MultiplexedFrame
        frames.push(frame)
        onFrame(frame, (event) => accepted.send(JSON.stringify({ id: frame.id, ...event })), accepted)
      })
    })
  })
  http.listen(0, '127.0.0.1')
  await once(http, 'listening')
  const baseUrl = `http://127.0.0.1:${(http.address() as AddressInfo).port}`
  connection = openConnection({ baseUrl, apiKey: 'apar_k_secret', WebSocket })
})
afterEach(() => {
  connection.close()
  for (const socket of sockets.clients) socket.terminate()
  http.closeAllConnections()
  http.close()
})

const request = (content: string) => ({ model: 'm', messages: [{ role: 'user' as const, content }] })
const usage = {
  prompt_tokens: 1,
  cached_prompt_tokens: 0,
  completion_tokens: 2,
  total_tokens: 3,
  branches: [],
}

/** Events of a stream whose name and text are `text`; tests use the prompt. */
const answer = (text: string) => [
  { type: 'accepted', seq: 0, version: 1, stream: text, model: 'm', joints: 'kept', created: 1 },
  { type: 'delta', seq: 1, branch: 0, text },
  { type: 'delta', seq: 2, branch: 0, text: '!' },
  { type: 'branch_end', seq: 3, branch: 0, reason: 'stop' },
  { type: 'done', seq: 4, reason: 'stop', usage },
]
const promptOf = (frame: MultiplexedFrame) => ('messages' in frame ? (frame.messages[0]?.content ?? '') : '')

test('streams share one socket without mixing their texts', async () => {
  onFrame = (frame, send) => {
    if (frame.type === 'generate') answer(promptOf(frame)).forEach(send)
  }
  const texts = ['a', 'b', 'c'].map((prompt) => connection.stream(request(prompt)).text())
  expect(await Promise.all(texts)).toEqual(['a!', 'b!', 'c!'])
  expect(await connection.stream(request('later')).text()).toBe('later!')
  expect(sockets.clients.size).toBe(1)
  expect(new Set(frames.map(({ id }) => id)).size).toBe(4)
  // Without the ack the edge would keep each stream for its grace time.
  await vi.waitFor(() => expect(frames.filter(({ type }) => type === 'ack')).toHaveLength(4))
  expect([...sockets.clients][0]?.protocol).toBe('apar.mux.v1')
})

test('a cancel or a failure ends only one stream', async () => {
  onFrame = (frame, send) => {
    if (frame.type === 'generate') answer(promptOf(frame)).slice(0, 2).forEach(send)
    if (frame.type === 'cancel') send({ type: 'done', seq: 2, reason: 'abort', usage })
    if (frame.type === 'cancel_branch') {
      send({ type: 'error', seq: 2, code: 'engine_error', message: 'broken', param: null })
    }
  }
  const [a, b, c] = ['a', 'b', 'c'].map((prompt) => connection.stream(request(prompt)))
  await vi.waitFor(() => expect([a, b, c].map((stream) => stream?.tree.text())).toEqual(['a', 'b', 'c']))
  a?.cancel()
  expect(await a?.text()).toBe('a')
  b?.cancelBranch(1)
  await expect(b?.text()).rejects.toMatchObject({ code: 'engine_error' })
  c?.cancel()
  expect(await c?.text()).toBe('c')
})

test('every stream resumes after the socket was lost', async () => {
  let cut = false
  onFrame = (frame, send, socket) => {
    if (frame.type === 'generate') {
      answer(promptOf(frame)).slice(0, 2).forEach(send)
      if (promptOf(frame) === 'b' && !cut) {
        cut = true
        setTimeout(() => socket.terminate(), 1)
      }
    } else if (frame.type === 'resume') {
      answer(frame.stream)
        .slice(frame.after + 1)
        .forEach(send)
    }
  }
  const texts = ['a', 'b'].map((prompt) => connection.stream(request(prompt)).text())
  expect(await Promise.all(texts)).toEqual(['a!', 'b!'])
  expect(frames.filter(({ type }) => type === 'generate')).toHaveLength(2)
})

test('a stream that the edge has cut resumes on the same socket', async () => {
  onFrame = (frame, send) => {
    if (frame.type === 'generate') {
      answer('a').slice(0, 2).forEach(send)
      send({ type: 'cut', reason: 'slow_client' })
    } else if (frame.type === 'resume') {
      answer('a')
        .slice(frame.after + 1)
        .forEach(send)
    }
  }
  expect(await connection.stream(request('a')).text()).toBe('a!')
  expect(sockets.clients.size).toBe(1)
})

test('a stream that another connection has taken over does not resume', async () => {
  onFrame = (frame, send) => {
    if (frame.type === 'generate') answer('a').slice(0, 2).forEach(send)
    send({ type: 'cut', reason: 'replaced' })
  }
  await expect(connection.stream(request('a')).text()).rejects.toMatchObject({ code: 'stream_replaced' })
  expect(frames).toHaveLength(1)
})

test('reports why the edge refuses the socket', async () => {
  accept = false
  await expect(connection.stream(request('a')).text()).rejects.toMatchObject({ code: 'invalid_api_key' })
})

test('a prompt that is too long fails only its own stream', async () => {
  onFrame = (frame, send) => {
    if (frame.type === 'generate') answer(promptOf(frame)).forEach(send)
  }
  const long = connection.stream(request('x'.repeat(2 * 1024 * 1024))).text()
  const short = connection.stream(request('a')).text()
  await expect(long).rejects.toMatchObject({ code: 'body_too_large' })
  expect(await short).toBe('a!')
})

test('close fails running and later streams, and does not reconnect', async () => {
  const codes: number[] = []
  onFrame = (frame, send, socket) => {
    socket.on('close', (code) => codes.push(code))
    if (frame.type === 'generate') answer(promptOf(frame)).slice(0, 2).forEach(send)
  }
  const [a, b] = ['a', 'b'].map((prompt) => connection.stream(request(prompt)))
  await vi.waitFor(() => expect([a, b].map((stream) => stream?.tree.text())).toEqual(['a', 'b']))
  connection.close()
  const closed = { code: 'connection_closed' }
  await expect(a?.text()).rejects.toMatchObject(closed)
  await expect(b?.text()).rejects.toMatchObject(closed)
  await expect(connection.stream(request('c')).text()).rejects.toMatchObject(closed)
  // Code 1000 cancels the streams at the edge.
  await vi.waitFor(() => expect(new Set(codes)).toEqual(new Set([1000])))
  expect(frames.map(({ type }) => type)).toEqual(['generate', 'generate'])
})

test('close also fails a stream that is reconnecting', async () => {
  let upgrades = 0
  http.on('upgrade', () => void upgrades++)
  onFrame = (_, send, socket) => {
    answer('a').slice(0, 2).forEach(send)
    accept = false
    setTimeout(() => socket.terminate(), 1)
  }
  const stream = connection.stream(request('a'))
  await vi.waitFor(() => expect(upgrades).toBeGreaterThan(1))
  connection.close()
  await expect(stream.text()).rejects.toMatchObject({ code: 'connection_closed' })
})
