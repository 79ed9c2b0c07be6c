import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { openConnection, openStream, type SocketLike } from '../../client/index.ts'
import { watched } from '../../client/watched-socket.ts'

/** A fake socket whose peer is the test. */
class FakeSocket implements SocketLike {
  static made: FakeSocket[] = []
  readyState = 0
  readonly sent: string[] = []
  closedWith: number | undefined
  readonly #listeners: { type: string; listener: (event?: unknown) => void }[] = []

  readonly url: string

  constructor(url: string) {
    this.url = url
    FakeSocket.made.push(this)
  }
  addEventListener(type: string, listener: (event: never) => void): void {
    this.#listeners.push({ type, listener: listener as (event?: unknown) => void })
  }
  send(data: string): void {
    this.sent.push(data)
  }
  /** Emits no close event, as with a dead peer. */
  close(code?: number): void {
    this.closedWith = code
    this.readyState = 2
  }
  emit(type: 'open' | 'message' | 'close' | 'error', event?: object): void {
    if (type === 'open') this.readyState = 1
    for (const each of this.#listeners) if (each.type === type) each.listener(event)
  }
  receive(frame: object): void {
    this.emit('message', { data: JSON.stringify(frame) })
  }
}

beforeEach(() => {
  FakeSocket.made = []
  vi.useFakeTimers()
})
afterEach(() => void vi.useRealTimers())

function watch() {
  const socket = new (watched(FakeSocket))('ws://edge', [])
  const events: unknown[] = []
  socket.addEventListener('open', () => events.push('open'))
  socket.addEventListener('message', ({ data }) => events.push(data))
  socket.addEventListener('close', ({ code }) => events.push(code))
  return { socket, events, real: made(0) }
}
function made(index: number): FakeSocket {
  const socket = FakeSocket.made[index]
  if (!socket) throw new Error(`socket ${index} was not made`)
  return socket
}

it('forwards events, and any message restarts the idle timeout', () => {
  const { socket, events, real } = watch()
  real.emit('open')
  for (let quarter = 0; quarter < 20; quarter++) {
    vi.advanceTimersByTime(15_000)
    real.emit('message', { data: quarter })
  }
  expect(events).toEqual(['open', ...Array.from({ length: 20 }, (_, quarter) => quarter)])
  expect(socket.readyState).toBe(1)
  real.emit('close', { code: 1000 })
  expect(events.at(-1)).toBe(1000)
  expect(vi.getTimerCount()).toBe(0)
})

it('closes once after 40 s without a message, and emits no more events', () => {
  const { socket, events, real } = watch()
  real.emit('open')
  vi.advanceTimersByTime(30_000)
  real.emit('message', { data: 'x' })
  vi.advanceTimersByTime(39_000)
  expect(events).toEqual(['open', 'x'])
  vi.advanceTimersByTime(1_000)
  expect(events).toEqual(['open', 'x', 1006])
  expect([socket.readyState, real.readyState]).toEqual([3, 2])
  // If the connection was only stalled, the edge receives this code; 1000 would cancel the streams.
  expect(real.closedWith).toBe(4000)
  real.emit('message', { data: 'late' })
  real.emit('close', { code: 1006 })
  vi.advanceTimersByTime(100_000)
  expect(events).toEqual(['open', 'x', 1006])
})

it('closes when it does not open within 40 s', () => {
  const { events } = watch()
  vi.advanceTimersByTime(40_000)
  expect(events).toEqual([1006])
})

const request = { model: 'm', messages: [{ role: 'user' as const, content: 'hi' }] }
const options = { baseUrl: 'http://edge', apiKey: 'apar_k_secret', WebSocket: FakeSocket }
const accepted = {
  type: 'accepted',
  version: 1,
  seq: 0,
  stream: 's1',
  model: 'm',
  joints: 'kept',
  created: 1,
}
const rest = [
  { type: 'delta', seq: 1, branch: 0, text: 'all' },
  { type: 'branch_end', seq: 2, branch: 0, reason: 'stop' },
  { type: 'done', seq: 3, reason: 'stop', usage: {} },
]

it('a stream resumes on a new socket when its socket has timed out', async () => {
  const stream = openStream({ ...options, request })
  made(0).emit('open')
  made(0).receive(accepted)
  await vi.advanceTimersByTimeAsync(41_000)
  expect(made(1).url).toContain('stream=s1&after=0')
  made(1).emit('open')
  for (const frame of rest) made(1).receive(frame)
  expect(await stream.text()).toBe('all')
})

it('streams of a shared socket resume on a new one when it has timed out; keep-alives prevent that', async () => {
  const stream = openConnection(options).stream(request)
  made(0).emit('open')
  made(0).receive({ id: '1', ...accepted })
  for (let quarter = 0; quarter < 8; quarter++) {
    await vi.advanceTimersByTimeAsync(15_000)
    made(0).receive({ type: 'keep_alive' })
  }
  expect(FakeSocket.made).toHaveLength(1)
  await vi.advanceTimersByTimeAsync(41_000)
  made(1).emit('open')
  expect(made(1).sent.map((text) => JSON.parse(text))).toEqual([
    { id: '2', type: 'resume', stream: 's1', after: 0 },
  ])
  for (const frame of rest) made(1).receive({ id: '2', ...frame })
  expect(await stream.text()).toBe('all')
})
