import { beforeEach, describe, expect, it, vi } from 'vitest'
import {
  MAX_REQUESTS,
  MultiplexedStreams,
  type MultiplexedStreamsOptions,
} from '../../edge/streams/multiplex/multiplexed-streams.ts'
import type { MultiplexedServerFrame } from '../../shared/protocol/multiplex.ts'
import {
  accepted,
  admin,
  branchEnd,
  Client,
  call,
  delta,
  done,
  fork,
  framesSeenByNode,
  KEY,
  newKey,
  register,
  request,
} from './support.ts'

type Frame = MultiplexedServerFrame & { id?: string; seq?: number; first?: number; stream?: string }

/** The sequence numbers of the events, merged deltas included. */
function seqsOf(frames: readonly Frame[]): number[] {
  return frames.flatMap(({ seq = -1, first = seq }) =>
    Array.from({ length: seq - first + 1 }, (_, n) => first + n),
  )
}

/** A client with many requests on one socket; keeps the frames by request. */
class SharedClient {
  readonly #client: Client
  readonly #byId = new Map<string, Frame[]>()
  #reading: Promise<void> | undefined

  private constructor(client: Client) {
    this.#client = client
  }

  static async open(key = KEY): Promise<SharedClient> {
    return new SharedClient(await Client.open('', key, 'apar.mux.v1'))
  }

  send(frame: unknown): void {
    this.#client.send(frame)
  }

  generate(id: string, steps: unknown[], fields: object = {}): void {
    this.send({ id, type: 'generate', ...request(steps, fields) })
  }

  close(): void {
    this.#client.close()
  }

  disconnect(): void {
    this.#client.disconnect()
  }

  /** The frames with this id so far, once `condition` holds. '' is for frames without an id. */
  async until(id: string, condition: (frames: Frame[]) => boolean): Promise<Frame[]> {
    while (!condition(this.#of(id))) {
      this.#reading ??= this.#readOne().finally(() => {
        this.#reading = undefined
      })
      await this.#reading
    }
    return this.#of(id)
  }

  async #readOne(): Promise<void> {
    const frame = (await this.#client.next()) as Frame | undefined
    if (!frame) throw new Error(`closed; so far ${JSON.stringify([...this.#byId])}`)
    this.#byId.set(frame.id ?? '', [...this.#of(frame.id ?? ''), frame])
  }

  #of(id: string): Frame[] {
    return this.#byId.get(id) ?? []
  }

  /** All frames of a request, once its last event has come. */
  ended(id: string): Promise<Frame[]> {
    return this.until(id, (frames) => {
      const { type } = frames.at(-1) ?? {}
      return type === 'done' || type === 'error' || type === 'cut'
    })
  }

  async streamOf(id: string): Promise<string> {
    const [first] = await this.until(id, (frames) => frames.length > 0)
    if (!first?.stream) throw new Error(`got ${JSON.stringify(first)}`)
    return first.stream
  }

  closed(): Promise<unknown> {
    return this.#client.rest()
  }
}

const answer = [accepted, delta(0, 'a'), fork(0, 1, 1), delta(1, 'b'), branchEnd(1), branchEnd(0), done()]
const hanging = [accepted, delta(0, 'a'), { await: 'frame' }, done('abort')]

beforeEach(async () => {
  expect((await register('shared')).status).toBe(200)
})

describe('a socket that carries many requests', () => {
  it('gives each its own events, with its id, unchanged and in order', async () => {
    const client = await SharedClient.open()
    client.generate('first', answer)
    client.generate('2', [accepted, delta(0, 'other'), branchEnd(0), done()])
    const [first, second] = [await client.ended('first'), await client.ended('2')]
    expect(first).toEqual(
      answer.map((event, seq) => ({
        id: 'first',
        seq,
        ...event,
        ...(event === accepted && { stream: first[0]?.stream }),
      })),
    )
    expect(second.map(({ seq }) => seq)).toEqual([0, 1, 2, 3])
    expect(second[0]?.stream).not.toBe(first[0]?.stream)
    client.close()
  })

  it('lets an id be used again once its request has ended', async () => {
    const client = await SharedClient.open()
    client.generate('a', answer)
    await client.ended('a')
    client.generate('a', answer)
    const frames = await client.until('a', (all) => all.length === 2 * answer.length)
    expect(frames.map(({ seq }) => seq)).toEqual([...answer.keys(), ...answer.keys()])
  })

  it('cancels one, and the others go on', async () => {
    const client = await SharedClient.open()
    client.generate('a', hanging)
    client.generate('b', [accepted, { await: 'frame' }, ...answer.slice(1)])
    const streams = [await client.streamOf('a'), await client.streamOf('b')]
    client.send({ id: 'a', type: 'cancel' })
    expect((await client.ended('a')).at(-1)).toMatchObject({ type: 'done', reason: 'abort' })
    // Frames for a request that has ended are ignored.
    client.send({ id: 'a', type: 'cancel' })
    client.send({ id: 'b', type: 'cancel_branch', branch: 7 })
    expect(await client.ended('b')).toHaveLength(answer.length)
    client.close()
    expect((await framesSeenByNode(streams[0] ?? ''))[1]).toEqual({ type: 'cancel' })
    expect((await framesSeenByNode(streams[1] ?? ''))[1]).toEqual({ type: 'cancel_branch', branch: 7 })
  })

  it('sends a cancel that came before the session was connected', async () => {
    const client = await SharedClient.open()
    client.generate('a', hanging)
    client.send({ id: 'a', type: 'cancel' })
    expect((await client.ended('a')).at(-1)).toMatchObject({ type: 'done', reason: 'abort' })
  })

  it.each([
    ['is refused', [{ type: 'error', code: 'context_length_exceeded', message: 'long', param: null }]],
    ['fails', [[accepted, { die: true }], [{ die: true }]]],
  ])('goes on when one of them %s', async (_, steps) => {
    const log = vi.spyOn(console, 'error').mockImplementation(() => {})
    const client = await SharedClient.open()
    client.generate('good', [accepted, { await: 'frame' }, ...answer.slice(1)])
    await client.streamOf('good')
    client.generate('bad', steps)
    expect((await client.ended('bad')).at(-1)).toMatchObject({ type: 'error' })
    client.send({ id: 'good', type: 'cancel_branch', branch: 7 })
    expect((await client.ended('good')).at(-1)).toMatchObject({ type: 'done' })
    log.mockRestore()
  })

  it('cancels all of them when the client closes it', async () => {
    const client = await SharedClient.open()
    client.generate('a', hanging)
    client.generate('b', hanging)
    const streams = [await client.streamOf('a'), await client.streamOf('b')]
    client.close()
    for (const stream of streams) {
      const types = (await framesSeenByNode(stream)).map(({ type }) => type)
      expect(types).toEqual(['start', 'cancel', 'ack'])
    }
  })
})

describe('a client that lost its shared socket', () => {
  const steps = [accepted, delta(0, 'a'), delta(0, 'b'), { await: 'frame' }, branchEnd(0), done()]

  it('resumes its requests on another one, each event once', async () => {
    const first = await SharedClient.open()
    first.generate('a', steps)
    first.generate('b', steps)
    const streams = [await first.streamOf('a'), await first.streamOf('b')]
    first.disconnect()
    const second = await SharedClient.open()
    second.send({ id: 'x', type: 'resume', stream: streams[0], after: 1 })
    second.send({ id: 'y', type: 'resume', stream: streams[1], after: 0 })
    for (const id of ['x', 'y']) second.send({ id, type: 'cancel_branch', branch: 7 })
    expect(seqsOf(await second.ended('x'))).toEqual([2, 3, 4])
    expect(seqsOf(await second.ended('y'))).toEqual([1, 2, 3, 4])
  })

  it('may lose another socket while it resumes', async () => {
    const first = await SharedClient.open()
    first.generate('a', steps)
    const stream = await first.streamOf('a')
    first.disconnect()
    const second = await SharedClient.open()
    second.send({ id: 'a', type: 'resume', stream, after: 0 })
    second.disconnect()
    const third = await SharedClient.open()
    third.send({ id: 'a', type: 'resume', stream, after: 0 })
    third.send({ id: 'a', type: 'cancel_branch', branch: 7 })
    expect(seqsOf(await third.ended('a'))).toEqual([1, 2, 3, 4])
  })

  it('may resume to get the last event until it has acknowledged it', async () => {
    const first = await SharedClient.open()
    first.generate('a', answer)
    first.generate('b', answer)
    const streams = [await first.streamOf('a'), await first.streamOf('b')]
    await first.ended('a')
    const { seq } = (await first.ended('b')).at(-1) ?? {}
    first.send({ id: 'b', type: 'ack', seq })
    // The acknowledgement is passed on, so that the node can delete its log.
    expect((await framesSeenByNode(streams[1] ?? '')).at(-1)).toMatchObject({ type: 'ack' })
    first.disconnect()
    const second = await SharedClient.open()
    second.send({ id: 'x', type: 'resume', stream: streams[0], after: answer.length - 2 })
    second.send({ id: 'y', type: 'resume', stream: streams[1], after: answer.length - 2 })
    expect(await second.ended('x')).toMatchObject([{ type: 'done', seq: answer.length - 1 }])
    expect(await second.ended('y')).toMatchObject([{ type: 'error', code: 'stream_not_found' }])
  })

  it('may resume on a single socket, and the shared one gets a cut frame', async () => {
    const shared = await SharedClient.open()
    shared.generate('a', steps)
    const stream = await shared.streamOf('a')
    const single = await Client.resume(stream, 1)
    expect(await shared.ended('a')).toContainEqual({ id: 'a', type: 'cut', reason: 'replaced' })
    single.send({ type: 'cancel_branch', branch: 7 })
    expect((await single.rest()).map(({ seq }) => seq)).toEqual([2, 3, 4])
  })

  it.each([
    ['an invalid name', 'nope'],
    ['a stream that never existed', 'f'.repeat(64)],
  ])('gets stream_not_found: %s', async (_, stream) => {
    const client = await SharedClient.open()
    client.send({ id: 'a', type: 'resume', stream, after: 4 })
    expect(await client.ended('a')).toEqual([
      expect.objectContaining({ id: 'a', type: 'error', code: 'stream_not_found', seq: 5 }),
    ])
  })
})

describe('limits of a shared socket', () => {
  it('refuses one request too many, and accepts it when another has ended', async () => {
    const client = await SharedClient.open()
    for (let n = 0; n < MAX_REQUESTS; n++) client.generate(`r${n}`, hanging)
    client.generate('more', answer)
    expect(await client.ended('more')).toMatchObject([{ type: 'error', code: 'socket_full', seq: 0 }])
    client.send({ id: 'r0', type: 'cancel' })
    await client.ended('r0')
    client.generate('again', answer)
    expect(await client.ended('again')).toHaveLength(answer.length)
    client.close()
  })

  it('counts each request in the rate limit of its key', async () => {
    const { key } = await newKey({ limits: { requests_per_minute: 3 } })
    const client = await SharedClient.open(key)
    client.generate('a', answer)
    client.generate('b', answer)
    await client.ended('a')
    await client.ended('b')
    client.generate('c', answer)
    expect(await client.ended('c')).toMatchObject([{ code: 'rate_limit_exceeded', seq: 0 }])
  })

  it('counts each stream in the concurrent streams of its key', async () => {
    const { key } = await newKey({ limits: { concurrent_streams: 1 } })
    const client = await SharedClient.open(key)
    client.generate('a', hanging)
    await client.streamOf('a')
    client.generate('b', answer)
    expect(await client.ended('b')).toMatchObject([{ code: 'too_many_streams', seq: 0 }])
  })

  it('starts nothing for a key that has been revoked', async () => {
    const { id, key } = await newKey()
    const client = await SharedClient.open(key)
    expect((await admin(`/${id}`, { method: 'DELETE' })).ok).toBe(true)
    client.generate('a', answer)
    expect(await client.ended('a')).toMatchObject([{ code: 'invalid_api_key', seq: 0 }])
  })
})

describe('invalid frames on a shared socket', () => {
  const good = { type: 'generate', ...request(answer) }

  it.each([
    ['not JSON', '{', 'invalid_json', null],
    ['no object', '7', 'invalid_request', null],
    ['no id', good, 'invalid_request', 'id'],
    ['an empty id', { ...good, id: '' }, 'invalid_request', 'id'],
    ['a huge frame', 'x'.repeat(2 * 1024 * 1024 + 1), 'body_too_large', null],
  ])('are answered without an id, and do not affect other requests: %s', async (_, frame, code, param) => {
    const client = await SharedClient.open()
    client.send(frame)
    client.generate('a', answer)
    const [error] = await client.until('', (frames) => frames.length > 0)
    expect(error).toMatchObject({ type: 'error', code, param })
    expect(await client.ended('a')).toHaveLength(answer.length)
  })

  it.each([
    ['unknown type', { type: 'dance' }, 'type'],
    ['unknown field', { ...good, loud: true }, 'loud'],
    ['resume without a stream', { type: 'resume', after: 1 }, 'stream'],
  ])('end the request that they name: %s', async (_, frame, param) => {
    const client = await SharedClient.open()
    client.send({ id: 'new', ...frame })
    expect(await client.ended('new')).toMatchObject([{ code: 'invalid_request', param, seq: 0 }])
    client.generate('a', hanging)
    const stream = await client.streamOf('a')
    await client.until('a', (frames) => frames.length === 2)
    client.send({ id: 'a', ...frame })
    expect((await client.ended('a')).at(-1)).toMatchObject({ code: 'invalid_request', param, seq: 2 })
    expect((await framesSeenByNode(stream))[1]).toEqual({ type: 'cancel' })
  })

  it('end a request whose id is used twice', async () => {
    const client = await SharedClient.open()
    client.generate('a', hanging)
    await client.streamOf('a')
    client.generate('a', answer)
    expect((await client.ended('a')).at(-1)).toMatchObject({ code: 'invalid_request', param: 'id' })
  })

  it('close the socket when there are too many in a row', async () => {
    const client = await SharedClient.open()
    for (let n = 0; n < 300; n++) client.send('{')
    expect(await client.closed()).toHaveLength(256)
  })

  it('a handshake that names a stream is refused', async () => {
    const headers = { upgrade: 'websocket', 'sec-websocket-protocol': 'apar.mux.v1' }
    expect((await call('/v1/stream?stream=x', { headers })).status).toBe(400)
    const response = await call('/v1/stream', { headers })
    expect(response.headers.get('sec-websocket-protocol')).toBe('apar.mux.v1')
    response.webSocket?.accept()
    response.webSocket?.close()
  })
})

describe('a shared socket without sessions', () => {
  function open(options: Partial<MultiplexedStreamsOptions> = {}) {
    const { 0: socket, 1: server } = new WebSocketPair()
    const frames: Frame[] = []
    socket.addEventListener('message', ({ data }) => frames.push(JSON.parse(String(data))))
    const closed = new Promise<number>((resolve) => {
      socket.addEventListener('close', ({ code }) => resolve(code))
    })
    socket.accept()
    server.accept()
    const connect = () => new Promise<WebSocket>(() => {})
    new MultiplexedStreams(server, { connect, log: () => {}, ...options })
    return { socket, frames, closed }
  }

  it('sends keep-alives when it has nothing else to send', async () => {
    const { frames } = open({ keepAliveMs: 1 })
    await vi.waitFor(() => expect(frames).toContainEqual({ type: 'keep_alive' }))
  })

  it('closes when it has had no requests for a while', async () => {
    const { closed } = open({ idleMs: 1 })
    expect(await closed).toBe(1000)
  })

  it('closes sooner when its first request does not come, whatever other frames come', async () => {
    const { socket, closed } = open({ firstRequestMs: 100 })
    socket.send('nonsense')
    socket.send(JSON.stringify({ id: 'a', type: 'cancel' }))
    expect(await closed).toBe(1000)
  })

  it('sends a cut frame for a request that is read too slowly', async () => {
    const { 0: near, 1: far } = new WebSocketPair()
    far.accept()
    const { socket, frames } = open({ connect: async () => near })
    socket.send(JSON.stringify({ id: 'a', type: 'generate', ...request(answer) }))
    const got = new Promise((resolve) => far.addEventListener('message', resolve))
    await got
    far.close(4408, 'slow_client')
    await vi.waitFor(() => expect(frames).toEqual([{ id: 'a', type: 'cut', reason: 'slow_client' }]))
  })

  it('refuses requests while too much data waits for sessions to connect', async () => {
    const { socket, frames } = open()
    const content = 'x'.repeat(900_000)
    const messages = [
      { role: 'user', content },
      { role: 'user', content },
    ]
    for (let n = 0; n < 6; n++)
      socket.send(JSON.stringify({ id: `r${n}`, type: 'generate', model: 'demo', messages }))
    await vi.waitFor(() => expect(frames).toMatchObject([{ id: 'r5', code: 'overloaded' }]))
  })

  it('keeps only a few frames for a session that is not connected yet', async () => {
    const { socket, frames } = open()
    socket.send(JSON.stringify({ id: 'a', type: 'generate', ...request(answer) }))
    for (let n = 0; n < 16; n++) socket.send(JSON.stringify({ id: 'a', type: 'cancel_branch', branch: n }))
    await vi.waitFor(() => expect(frames).toMatchObject([{ id: 'a', code: 'overloaded' }]))
  })

  it('hides the message of an unexpected error, and logs it', async () => {
    const log = vi.fn()
    const { socket, frames } = open({
      log,
      connect: async () => {
        throw new Error('secret detail')
      },
    })
    socket.send(JSON.stringify({ id: 'a', type: 'generate', ...request(answer) }))
    await vi.waitFor(() => expect(frames).toMatchObject([{ code: 'internal_error', seq: 0 }]))
    expect(JSON.stringify(frames)).not.toContain('secret')
    expect(String(log.mock.calls[0]?.[0])).toContain('secret detail')
  })
})
