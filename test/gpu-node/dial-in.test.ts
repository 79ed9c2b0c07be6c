import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { type WebSocket, WebSocketServer } from 'ws'
import { DialIn } from '../../gpu-node/edge-link/dial-in.ts'
import type { RequestSocket } from '../../gpu-node/requests/request-socket.ts'
import { FromDialledInNode, type ToDialledInNode } from '../../shared/protocol/dial-in.ts'
import { recorded } from '../support/logs.ts'

const HEARTBEAT = {
  models: [{ id: 'tiny', created: 1, context_tokens: 256 }],
  capacity: { branches: 8, blocks: 64 },
  load: { running: 0, waiting: 0, free_blocks: 64 },
}

/** The edge's side of a socket that a node has opened. */
class Dialled {
  readonly socket: WebSocket
  readonly path: string | undefined
  readonly authorization: string | undefined
  readonly #messages: FromDialledInNode[] = []
  #wake = () => {}

  constructor(socket: WebSocket, path: string | undefined, authorization: string | undefined) {
    this.socket = socket
    this.path = path
    this.authorization = authorization
    socket.on('message', (data) => {
      this.#messages.push(FromDialledInNode.parse(JSON.parse(String(data))))
      this.#wake()
    })
  }

  send(message: ToDialledInNode): void {
    this.socket.send(JSON.stringify(message))
  }

  async next(): Promise<FromDialledInNode> {
    for (;;) {
      const message = this.#messages.shift()
      if (message) return message
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
  }
}

let edge: WebSocketServer
let dialIn: DialIn | undefined
let channels: RequestSocket[]
let heartbeats: number

beforeEach(async () => {
  channels = []
  heartbeats = 0
  edge = new WebSocketServer({ port: 0, host: '127.0.0.1' })
  await once(edge, 'listening')
})
afterEach(async () => {
  vi.useRealTimers()
  await dialIn?.stop()
  edge.close()
})

function dial(serve: (channel: RequestSocket) => void = (channel) => channels.push(channel)) {
  const recording = recorded()
  dialIn = new DialIn({
    edgeUrl: `http://127.0.0.1:${(edge.address() as AddressInfo).port}`,
    nodeId: 'node-1',
    nodeSecret: 'secret',
    heartbeat: () => {
      heartbeats++
      return HEARTBEAT
    },
    serve,
    log: recording.log,
  })
  return { dialIn, ...recording }
}

async function dialled(): Promise<Dialled> {
  const [socket, { url, headers }] = await once(edge, 'connection')
  return new Dialled(socket, url, headers.authorization)
}

test('sends a heartbeat at once, and is registered when the edge answers', async () => {
  const { dialIn } = dial()
  const node = await dialled()
  expect(node).toMatchObject({ path: '/internal/v1/nodes/node-1/socket', authorization: 'Bearer secret' })
  expect(await node.next()).toEqual({ type: 'heartbeat', heartbeat: HEARTBEAT })
  expect(dialIn.holdsLease).toBe(false)
  node.send({ type: 'lease', heartbeat_ms: 5, lease_ms: 60_000 })
  await dialIn.registered
  expect(dialIn.holdsLease).toBe(true)
  expect(await node.next()).toMatchObject({ type: 'heartbeat' })
})

test('keeps sending heartbeats without answers, because the lease needs one that arrives', async () => {
  const { dialIn } = dial()
  const node = await dialled()
  await node.next()
  node.send({ type: 'lease', heartbeat_ms: 5, lease_ms: 60_000 })
  await dialIn.registered
  for (let count = 0; count < 3; count++) expect(await node.next()).toMatchObject({ type: 'heartbeat' })
})

test('sends heartbeats also before its first lease', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
  dial()
  const node = await dialled()
  await node.next()
  vi.advanceTimersByTime(5_000)
  expect(await node.next()).toMatchObject({ type: 'heartbeat' })
})

test('schedules only one next heartbeat, whatever it sends and receives meanwhile', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
  const { dialIn } = dial()
  const node = await dialled()
  await node.next()
  for (const heartbeat_ms of [60_000, 1_000, 1_000])
    node.send({ type: 'lease', heartbeat_ms, lease_ms: 60_000 })
  node.send({ type: 'open', channel: 0 })
  while (channels.length < 1) await new Promise(setImmediate)
  await dialIn.sendHeartbeat()
  await dialIn.sendHeartbeat()
  expect(heartbeats).toBe(3)
  vi.advanceTimersByTime(1_000)
  expect(heartbeats).toBe(4)
  vi.advanceTimersByTime(1_000)
  expect(heartbeats).toBe(5)
  const closed = once(node.socket, 'close')
  await dialIn.stop()
  await closed
  vi.advanceTimersByTime(60_000)
  expect(heartbeats).toBe(5)
})

test('accepts a message of 60 MiB, and no longer one', async () => {
  dial()
  const node = await dialled()
  await node.next()
  node.send({ type: 'lease', heartbeat_ms: 3_600_000, lease_ms: 3_600_000 })
  const frameOf = (bytes: number) => {
    const empty = JSON.stringify({ type: 'frame', channel: 9, text: '' })
    return empty.replace('""', `"${'x'.repeat(bytes - empty.length)}"`)
  }
  node.socket.send(frameOf(60 * 1024 * 1024))
  node.send({ type: 'open', channel: 0 })
  while (channels.length < 1) await new Promise(setImmediate)
  node.socket.send(frameOf(60 * 1024 * 1024 + 1))
  expect((await once(node.socket, 'close'))[0]).toBe(1009)
})

test('closes with 1002, without logging an error, when the edge uses another protocol', async () => {
  const { entries } = dial()
  const node = await dialled()
  node.socket.send('{"type":"nonsense"}')
  expect((await once(node.socket, 'close'))[0]).toBe(1002)
  expect(entries().filter(({ level }) => level === 'error')).toEqual([])
})

test('logs an exception while handling a message, and closes with 1011', async () => {
  const { entries } = dial(() => {
    throw new TypeError('a bug')
  })
  const node = await dialled()
  // Later messages are neither handled nor logged.
  for (const channel of [0, 1]) node.send({ type: 'open', channel })
  expect((await once(node.socket, 'close'))[0]).toBe(1011)
  expect(entries().filter(({ level }) => level === 'error')).toEqual([
    expect.objectContaining({ message: 'a bug ended the socket to the edge', type: 'open' }),
  ])
  expect(entries()[0]?.error).toContain('TypeError: a bug')
})

test('sends the frames that all streams produce in one task as one message', async () => {
  dial()
  const node = await dialled()
  await node.next()
  const received: unknown[] = []
  for (const channel of [0, 1]) node.send({ type: 'open', channel })
  node.send({ type: 'frame', channel: 1, text: 'hello' })
  node.send({ type: 'close', channel: 7 })
  while (channels.length < 2) await new Promise(setImmediate)
  const [a, b] = channels as [RequestSocket, RequestSocket]
  b.on('message', (text) => received.push(text))
  node.send({ type: 'frame', channel: 1, text: 'again' })
  while (received.at(-1) !== 'again') await new Promise(setImmediate)
  a.send('one')
  b.send('two')
  a.send('three')
  b.close(1012)
  expect([a.bufferedAmount, b.bufferedAmount]).toEqual([8, 3])
  const frames = [
    [0, 'one'],
    [1, 'two'],
    [0, 'three'],
    [1, 1012],
  ]
  expect(await node.next()).toEqual({ type: 'step', frames })
  expect([a.bufferedAmount, b.bufferedAmount]).toEqual([0, 0])
})

test('a channel ends when its number is reused', async () => {
  dial()
  const node = await dialled()
  node.send({ type: 'open', channel: 0 })
  while (channels.length < 1) await new Promise(setImmediate)
  const ended = new Promise<void>((resolve) => channels[0]?.on('close', resolve))
  node.send({ type: 'open', channel: 0 })
  await ended
  const received = new Promise<unknown>((resolve) => channels[1]?.on('message', resolve))
  node.send({ type: 'frame', channel: 0, text: 'hello' })
  expect(await received).toBe('hello')
})

test('ends all channels and dials again when the socket is lost', async () => {
  const { lines } = dial()
  const first = await dialled()
  first.send({ type: 'open', channel: 0 })
  while (channels.length < 1) await new Promise(setImmediate)
  const ended = new Promise<void>((resolve) => channels[0]?.on('close', resolve))
  first.socket.terminate()
  await ended
  const second = await dialled()
  expect(await second.next()).toMatchObject({ type: 'heartbeat' })
  expect(lines.join()).toContain('not registered')
})

test('any message from the edge restarts the idle timeout, however late the next lease', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
  const { dialIn } = dial()
  const node = await dialled()
  await node.next()
  node.send({ type: 'lease', heartbeat_ms: 3_600_000, lease_ms: 60_000 })
  await dialIn.registered
  const closed = once(node.socket, 'close')
  for (const channel of [0, 1, 2]) {
    vi.advanceTimersByTime(50_000)
    node.send({ type: 'open', channel })
    while (channels.length <= channel) await new Promise(setImmediate)
  }
  expect(node.socket.readyState).toBe(node.socket.OPEN)
  vi.advanceTimersByTime(60_000)
  await closed
})

test.each([
  ['after the idle timeout', { type: 'lease', heartbeat_ms: 60_000, lease_ms: 5 }],
  ['after a message of another protocol', { type: 'nonsense' }],
])('dials again: %s', async (_, message) => {
  dial()
  const first = await dialled()
  await first.next()
  const again = dialled()
  first.socket.send(JSON.stringify(message))
  await once(first.socket, 'close')
  expect(await (await again).next()).toMatchObject({ type: 'heartbeat' })
})
