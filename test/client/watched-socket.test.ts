import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { openConnection, openStream, type SocketLike } from '../../client/index.ts'
import { watched } from '../../client/watched-socket.ts'

/** A socket whose other end is the test. */
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
  /** As with a peer that is gone: nothing answers. */
  close(code?: number): void {
    this.closedWith = code
    this.readyState = 2
  }
  emit(type: 'open' | 'message' | 'close' | 'error', event?: object): void {
    if (type === 'open') this.readyState = 1
    for (const each of this.#listeners) if (each.type === type) each.listener(event)
  }
  say(frame: object): void {
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
  const heard: unknown[] = []
  socket.addEventListener('open', () => heard.push('open'))
  socket.addEventListener('message', ({ data }) => heard.push(data))
  socket.addEventListener('close', ({ code }) => heard.push(code))
  return { socket, heard, real: made(0) }
}
function made(index: number): FakeSocket {
  const socket = FakeSocket.made[index]
  if (!socket) throw new Error(`socket ${index} was not made`)
  return socket
}

it('passes on what its socket says, and whatever it says keeps it', () => {
  const { socket, heard, real } = watch()
  real.emit('open')
  for (let quarter = 0; quarter < 20; quarter++) {
    vi.advanceTimersByTime(15_000)
    real.emit('message', { data: quarter })
  }
  expect(heard).toEqual(['open', ...Array.from({ length: 20 }, (_, quarter) => quarter)])
  expect(socket.readyState).toBe(1)
  real.emit('close', { code: 1000 })
  expect(heard.at(-1)).toBe(1000)
  expect(vi.getTimerCount()).toBe(0)
})

it('is lost after 40 s of silence, once, and says nothing more', () => {
  const { socket, heard, real } = watch()
  real.emit('open')
  vi.advanceTimersByTime(30_000)
  real.emit('message', { data: 'x' })
  vi.advanceTimersByTime(39_000)
  expect(heard).toEqual(['open', 'x'])
  vi.advanceTimersByTime(1_000)
  expect(heard).toEqual(['open', 'x', 1006])
  expect([socket.readyState, real.readyState]).toEqual([3, 2])
  // A path that was only stalled delivers it: a goodbye would cancel the streams.
  expect(real.closedWith).toBe(4000)
  real.emit('message', { data: 'late' })
  real.emit('close', { code: 1006 })
  vi.advanceTimersByTime(100_000)
  expect(heard).toEqual(['open', 'x', 1006])
})

it('is lost when it never opens', () => {
  const { heard } = watch()
  vi.advanceTimersByTime(40_000)
  expect(heard).toEqual([1006])
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

it('a stream whose connection has gone silent goes on over another', async () => {
  const stream = openStream({ ...options, request })
  made(0).emit('open')
  made(0).say(accepted)
  await vi.advanceTimersByTimeAsync(41_000)
  expect(made(1).url).toContain('stream=s1&after=0')
  made(1).emit('open')
  for (const frame of rest) made(1).say(frame)
  expect(await stream.text()).toBe('all')
})

it('streams of a shared socket that has gone silent go on over another, keep-alives keep it', async () => {
  const stream = openConnection(options).stream(request)
  made(0).emit('open')
  made(0).say({ id: '1', ...accepted })
  for (let quarter = 0; quarter < 8; quarter++) {
    await vi.advanceTimersByTimeAsync(15_000)
    made(0).say({ type: 'keep_alive' })
  }
  expect(FakeSocket.made).toHaveLength(1)
  await vi.advanceTimersByTimeAsync(41_000)
  made(1).emit('open')
  expect(made(1).sent.map((text) => JSON.parse(text))).toEqual([
    { id: '2', type: 'resume', stream: 's1', after: 0 },
  ])
  for (const frame of rest) made(1).say({ id: '2', ...frame })
  expect(await stream.text()).toBe('all')
})
