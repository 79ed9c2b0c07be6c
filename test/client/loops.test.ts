import { beforeEach, describe, expect, test } from 'vitest'
import { type BranchStream, openStream, type SocketLike } from '../../client/index.ts'
import type { ClientFrame } from '../../shared/protocol/frames.ts'
import type { GenerateRequest } from '../../shared/protocol/request.ts'

/** The edge's side of the only socket that the client opens. */
let edge: FakeSocket

class FakeSocket implements SocketLike {
  readyState = 0
  readonly sent: ClientFrame[] = []
  readonly #listeners = new Map<string, ((event: never) => void)[]>()

  constructor() {
    edge = this
    queueMicrotask(() => {
      this.readyState = 1
      this.#emit('open', {})
    })
  }

  addEventListener(type: string, listener: (event: never) => void): void {
    this.#listeners.set(type, [...(this.#listeners.get(type) ?? []), listener])
  }

  send(data: string): void {
    this.sent.push(JSON.parse(data))
  }

  close(): void {
    this.readyState = 3
  }

  receive(...frames: object[]): void {
    for (const frame of frames) this.#emit('message', { data: JSON.stringify(frame) })
  }

  #emit(type: string, event: object): void {
    for (const listener of this.#listeners.get(type) ?? []) listener(event as never)
  }
}

let seq: number
const event = (type: string, more: object = {}) => ({ type, seq: seq++, ...more })
const accepted = () => event('accepted', { version: 1, stream: 's', model: 'm', joints: 'kept', created: 1 })
const delta = (branch: number, text: string) => event('delta', { branch, text })
const done = (more: object = {}) => {
  const usage = {
    prompt_tokens: 1,
    cached_prompt_tokens: 0,
    completion_tokens: 2,
    total_tokens: 3,
    branches: [],
  }
  return event('done', { reason: 'stop', usage, ...more })
}

async function open(more: Partial<GenerateRequest> = {}): Promise<BranchStream> {
  const request = { model: 'm', messages: [{ role: 'user' as const, content: 'hi' }], ...more }
  const stream = openStream({ baseUrl: 'http://edge', apiKey: 'k', request, WebSocket: FakeSocket })
  await settled()
  return stream
}

/** All promises that can go on have gone on. */
const settled = () => new Promise((resolve) => setTimeout(resolve))

/** Reads a loop into a list, to whose end its error is added. */
function collect(loop: AsyncIterable<string>): string[] {
  const pieces: string[] = []
  void (async () => {
    try {
      for await (const piece of loop) pieces.push(piece)
      pieces.push('END')
    } catch (error) {
      pieces.push((error as { code: string }).code)
    }
  })()
  return pieces
}

beforeEach(() => {
  seq = 0
})

describe('loops over text', () => {
  test('texts() are the answer in document order, branchText() that of one branch, several at a time', async () => {
    const stream = await open()
    const ordered = collect(stream.texts())
    const root = collect(stream.branchText(0))
    const child = collect(stream.branchText(1))
    edge.receive(accepted(), delta(0, '1. a:'), event('fork', { branch: 1, parent: 0, at: 5 }))
    await settled()
    edge.receive(delta(0, ' 2.'), delta(1, ' b'))
    await settled()
    expect(ordered).toEqual(['1. a:', ' b'])
    expect(child).toEqual([' b'])
    edge.receive(delta(1, 'c'), event('branch_end', { branch: 1, reason: 'stop' }))
    await settled()
    expect(child).toEqual([' b', 'c', 'END'])
    edge.receive(done())
    await settled()
    expect(ordered).toEqual(['1. a:', ' b', 'c 2.', 'END'])
    expect(root).toEqual(['1. a:', ' 2.', 'END'])
    // A loop that comes late gets the whole text.
    const late = collect(stream.texts())
    await settled()
    expect(late).toEqual(['1. a: bc 2.', 'END'])
  })

  test('leaving such a loop cancels nothing', async () => {
    const stream = await open()
    edge.receive(accepted(), delta(0, 'a'))
    for await (const text of stream.texts()) {
      expect(text).toBe('a')
      break
    }
    edge.receive(delta(0, 'b'), done())
    expect(await stream.text()).toBe('ab')
    expect(edge.sent.map(({ type }) => type)).toEqual(['generate'])
  })

  test('a stop string of the document ends texts() where it ends text()', async () => {
    const stream = await open({ stop: ['##'], stop_scope: 'document' })
    const ordered = collect(stream.texts())
    edge.receive(accepted(), delta(0, 'one #'), delta(0, '# two'))
    await settled()
    edge.receive(done({ text_length: 4 }))
    await settled()
    expect(ordered.join('')).toBe('one END')
    expect(await stream.text()).toBe('one ')
  })

  test('a stream that fails fails its loops, but not those over branches that had ended', async () => {
    const stream = await open()
    const loops = [collect(stream.texts()), collect(stream.branchText(0)), collect(stream.branchText(1))]
    edge.receive(accepted(), delta(0, 'a'), event('fork', { branch: 1, parent: 0, at: 1 }), delta(1, 'b'))
    edge.receive(event('branch_end', { branch: 1, reason: 'stop' }))
    edge.receive(event('error', { code: 'engine_error', message: 'no', param: null }))
    await settled()
    expect(loops).toEqual([
      ['ab', 'engine_error'],
      ['a', 'engine_error'],
      ['b', 'END'],
    ])
  })

  test('a stream that is left ends its loops', async () => {
    const stream = await open()
    const loops = [collect(stream.texts()), collect(stream.branchText(7))]
    edge.receive(accepted(), delta(0, 'a'))
    await settled()
    stream.detach()
    await settled()
    expect(loops).toEqual([['a', 'END'], ['END']])
  })
})

describe('back-pressure', () => {
  const acks = () => edge.sent.flatMap((frame) => (frame.type === 'ack' ? [frame.seq] : []))

  test('events are acknowledged as they are read', async () => {
    const stream = await open()
    const reader = stream[Symbol.asyncIterator]()
    const first = reader.next()
    edge.receive(accepted(), ...Array.from({ length: 200 }, () => delta(0, 'x')))
    await first
    expect(acks()).toEqual([])
    for (let read = 1; read < 33; read++) await reader.next()
    expect(acks()).toEqual([31])
    for (let read = 33; read < 100; read++) await reader.next()
    expect(acks()).toEqual([31, 63, 95])
  })

  test('a merged frame is acknowledged when all of it was read', async () => {
    const stream = await open()
    const reader = stream[Symbol.asyncIterator]()
    const texts = [0, 1].map((branch) => ({ branch, text: 'x' }))
    edge.receive(accepted(), event('fork', { branch: 1, parent: 0, at: 0 }))
    await reader.next()
    edge.receive({ type: 'deltas', first: 2, seq: 90, texts })
    await reader.next()
    await reader.next()
    expect(acks()).toEqual([])
    await reader.next()
    expect(acks()).toEqual([90])
  })

  test('without a reader of the events, they are acknowledged as they arrive', async () => {
    const stream = await open()
    edge.receive(accepted(), ...Array.from({ length: 70 }, () => delta(0, 'x')))
    expect(acks()).toEqual([31, 63])
    expect(stream.tree.text()).toHaveLength(70)
  })
})
