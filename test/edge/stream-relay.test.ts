import { expect, it, vi } from 'vitest'
import type { Nodes } from '../../edge/nodes/fleet-nodes.ts'
import type { NodeSocket } from '../../edge/nodes/node-socket.ts'
import { type ClientOptions, type RelayOptions, StreamRelay } from '../../edge/streams/stream-relay.ts'
import type { ServerFrame } from '../../shared/protocol/events.ts'
import type { NodeFrame } from '../../shared/protocol/node.ts'
import { accepted, branchEnd, delta, done, fork } from './support.ts'

class RecordingNode implements NodeSocket {
  readonly frames: NodeFrame[] = []
  closed = false
  #seq = 0
  #onBatch: (text: string) => void = () => {}
  /** Closes the connection with this code. */
  break: (code: number) => void = () => {}

  send(frame: NodeFrame): void {
    this.frames.push(frame)
  }

  listen(onBatch: (text: string) => void, onClose: (code: number) => void): void {
    this.#onBatch = onBatch
    this.break = onClose
  }

  close(): void {
    this.closed = true
  }

  /** One batch with these events, and as many rows. */
  emit(...events: object[]): void {
    this.emitRows(
      events.flatMap(() => [1, 0, 0, 0]),
      ...events,
    )
  }

  emitRows(rows: readonly number[], ...events: object[]): void {
    const numbered = events.map((event) => ({ stream: 's', seq: this.#seq++, ...event }))
    this.#onBatch(JSON.stringify({ rows, events: numbered }))
  }
}

class TestClient {
  readonly frames: ServerFrame[] = []
  readonly closed: Promise<number>
  readonly #socket: WebSocket

  constructor(to: StreamRelay, options: Partial<ClientOptions> = {}) {
    const { 0: client, 1: server } = new WebSocketPair()
    this.#socket = client
    this.closed = new Promise((resolve) => {
      client.addEventListener('close', ({ code }) => resolve(code))
    })
    client.addEventListener('message', ({ data }) => {
      this.frames.push(JSON.parse(String(data)))
    })
    client.accept()
    server.accept()
    to.connect(server, { after: -1, acks: false, ...options })
  }

  get seqs(): number[] {
    return this.frames.flatMap((frame) => ('seq' in frame ? [frame.seq] : []))
  }

  send(frame: object): void {
    this.#socket.send(JSON.stringify(frame))
  }

  generate(fields: object = {}): void {
    this.send({ type: 'generate', model: 'demo', messages: [{ role: 'user', content: 'hi' }], ...fields })
  }

  close(code: number): void {
    this.#socket.close(code)
  }
}

function setUp(options: Partial<RelayOptions> = {}, nodes: Partial<Nodes> = {}) {
  const node = new RecordingNode()
  const onClose = vi.fn()
  const relay = new StreamRelay({
    stream: 's',
    nodes: {
      pick: async () => ({ id: 'node', url: 'ws://node' }),
      connect: async () => node,
      leaseMs: async () => 60_000,
      reportFailure: () => {},
      reportNonsense: () => {},
      ...nodes,
    },
    onNode: () => {},
    onClose,
    log: () => {},
    ...options,
  })
  return { relay, node, onClose }
}

async function running(options: Partial<RelayOptions> = {}, client: Partial<ClientOptions> = {}) {
  const { relay, node, onClose } = setUp(options)
  const reader = new TestClient(relay, client)
  reader.generate()
  await vi.waitFor(() => expect(node.frames).toMatchObject([{ type: 'start' }]))
  node.emit(accepted)
  await vi.waitFor(() => expect(reader.frames).toHaveLength(1))
  return { relay, node, onClose, client: reader }
}

const types = (frames: readonly { type: string }[]) => frames.map(({ type }) => type)

it('closes a client that never sends generate', async () => {
  const { relay } = setUp({ generateTimeoutMs: 1 })
  const client = new TestClient(relay)
  await client.closed
  expect(client.frames).toMatchObject([{ type: 'error', seq: 0, code: 'invalid_request' }])
})

it('gives up a silent node when its lease has ended, and not before', async () => {
  let alive = true
  const pick = vi.fn<Nodes['pick']>().mockResolvedValue({ id: 'second', url: 'ws://second' })
  pick.mockResolvedValueOnce({ id: 'node', url: 'ws://node' })
  const leaseMs = vi.fn(async (id: string) => (alive || id === 'second' ? 1 : 0))
  const second = new RecordingNode()
  const node = new RecordingNode()
  const connect = vi.fn<Nodes['connect']>().mockResolvedValueOnce(node).mockResolvedValue(second)
  const reportFailure = vi.fn()
  const { relay } = setUp({ silenceMs: 1 }, { pick, leaseMs, connect, reportFailure })
  const client = new TestClient(relay)
  client.generate()
  await vi.waitFor(() => expect(node.frames).toMatchObject([{ type: 'start' }]))
  node.emit(accepted)
  await vi.waitFor(() => expect(leaseMs.mock.calls.length).toBeGreaterThan(3))
  expect(node.closed).toBe(false)
  alive = false
  await vi.waitFor(() =>
    expect(second.frames[0]).toMatchObject({ type: 'start', log: [{ rows: [1, 0, 0, 0] }] }),
  )
  expect(node.closed).toBe(true)
  // A late event of the node that was given up is ignored.
  node.emit(delta(0, 'old'))
  second.emit({ ...delta(0, 'new'), seq: 1 })
  await vi.waitFor(() => expect(client.frames).toMatchObject([{ seq: 0 }, { seq: 1, text: 'new' }]))
  // Without a lease it gets no requests; when it is back, it is back at once.
  expect(reportFailure).not.toHaveBeenCalled()
})

it('ends a stream whose log has become too long, and no node is at fault', async () => {
  const reportNonsense = vi.fn()
  const { relay, node } = setUp({}, { reportNonsense })
  const client = new TestClient(relay, { acks: true })
  client.generate({ max_tokens: 1_000_000 })
  await vi.waitFor(() => expect(node.frames).toHaveLength(1))
  node.emit(accepted)
  // Two thousand tokens with long texts.
  const rows = Array<number>(4 * 2000).fill(1)
  for (let sent = 0; sent < 64 && !node.closed; sent++) node.emitRows(rows, delta(0, 'x'.repeat(1024 * 1024)))
  await vi.waitFor(() => expect(node.closed).toBe(true))
  expect(types(node.frames)).toEqual(['start', 'cancel', 'ack'])
  expect(reportNonsense).not.toHaveBeenCalled()
  const last = new TestClient(relay, { after: 63 })
  await vi.waitFor(() => expect(last.frames.at(-1)).toMatchObject({ type: 'error', code: 'body_too_large' }))
})

it('cancels on a node that it reconnects to after the client has closed', async () => {
  let found = (_: NodeSocket) => {}
  const first = new RecordingNode()
  const connect = vi.fn<Nodes['connect']>().mockResolvedValueOnce(first)
  connect.mockImplementation(() => new Promise((resolve) => (found = resolve)))
  const { relay } = setUp({}, { connect })
  const client = new TestClient(relay)
  client.generate()
  await vi.waitFor(() => expect(types(first.frames)).toEqual(['start']))
  first.emit(accepted)
  first.break(1006)
  await vi.waitFor(() => expect(connect).toHaveBeenCalledTimes(2))
  client.close(1000)
  await client.closed
  const again = new RecordingNode()
  found(again)
  await vi.waitFor(() => expect(types(again.frames)).toEqual(['attach', 'cancel', 'ack']))
  expect(again.closed).toBe(true)
})

it('cancels there also when the client closes during the pause before a reconnect', async () => {
  const nodes = [new RecordingNode(), new RecordingNode(), new RecordingNode()]
  const waiting = [...nodes]
  const connect = vi.fn<Nodes['connect']>(async () => waiting.shift() ?? new RecordingNode())
  const { relay, onClose } = setUp({}, { connect })
  const client = new TestClient(relay)
  client.generate()
  await vi.waitFor(() => expect(types(nodes[0]?.frames ?? [])).toEqual(['start']))
  nodes[0]?.emit(accepted)
  nodes[0]?.break(1006)
  await vi.waitFor(() => expect(types(nodes[1]?.frames ?? [])).toEqual(['attach']))
  nodes[1]?.break(1006)
  client.close(1000)
  await vi.waitFor(() => expect(onClose).toHaveBeenCalled())
  expect(connect).toHaveBeenCalledTimes(2)
  await vi.waitFor(() => expect(types(nodes[2]?.frames ?? [])).toEqual(['attach', 'cancel', 'ack']))
})

it('refuses a client that resumes behind the end of the stream', async () => {
  const { relay, node } = await running()
  const ahead = new TestClient(relay, { after: 9 })
  node.emit(delta(0, 'a'), branchEnd(0), done())
  expect(await ahead.closed).toBe(1000)
  expect(ahead.frames).toMatchObject([{ type: 'error', code: 'invalid_request', param: 'after' }])
})

it('keeps the stream for a client that resumes behind its end, and then rightly', async () => {
  const { relay, node } = await running()
  node.emit(delta(0, 'a'), branchEnd(0), done())
  const ahead = new TestClient(relay, { after: 9 })
  await vi.waitFor(() => expect(ahead.frames).toHaveLength(1))
  ahead.close(1000)
  await ahead.closed
  const again = new TestClient(relay, { after: 0 })
  await vi.waitFor(() => expect(types(again.frames)).toEqual(['delta', 'branch_end', 'done']))
})

it('a bad frame on a replaced socket does not end the stream', async () => {
  const { relay, client, node } = await running()
  const again = new TestClient(relay, { after: 0 })
  client.send({ type: 'nonsense' })
  expect(await client.closed).toBe(4409)
  node.emit(delta(0, 'a'))
  await vi.waitFor(() => expect(again.frames).toMatchObject([{ type: 'delta', seq: 1 }]))
})

it('starts nothing for a client that closes before the node is connected', async () => {
  let found = (_: NodeSocket) => {}
  const connect = vi.fn(() => new Promise<NodeSocket>((resolve) => (found = resolve)))
  const { relay, node, onClose } = setUp({}, { connect })
  const client = new TestClient(relay)
  client.generate()
  await vi.waitFor(() => expect(connect).toHaveBeenCalled())
  client.close(1000)
  await vi.waitFor(() => expect(onClose).toHaveBeenCalled())
  found(node)
  await vi.waitFor(() => expect(node.closed).toBe(true))
  expect(node.frames).toEqual([])
})

it('hides the message of an unexpected error, and logs it', async () => {
  const log = vi.fn()
  const pick = async () => {
    throw new Error('secret detail')
  }
  const { relay } = setUp({ log }, { pick })
  const client = new TestClient(relay)
  client.generate()
  await client.closed
  expect(client.frames).toMatchObject([{ type: 'error', code: 'internal_error', message: 'internal error' }])
  expect(String(log.mock.calls[0]?.[0])).toContain('secret detail')
})

it('cancels at once when its client closes on purpose', async () => {
  const { client, node, onClose } = await running()
  client.close(1001)
  await vi.waitFor(() => expect(onClose).toHaveBeenCalledOnce())
  expect(types(node.frames)).toEqual(['start', 'cancel', 'ack'])
  expect(node.closed).toBe(true)
})

it('waits for a disconnected client, and cancels after the grace time', async () => {
  const { relay, client, node, onClose } = await running({ graceMs: 60 })
  client.close(4000)
  await client.closed
  node.emit(delta(0, 'a'))
  const again = new TestClient(relay, { after: 0 })
  await vi.waitFor(() => expect(again.frames).toMatchObject([{ seq: 1, text: 'a' }]))
  expect(types(node.frames)).toEqual(['start'])
  again.close(4000)
  await vi.waitFor(() => expect(onClose).toHaveBeenCalledOnce())
  expect(types(node.frames)).toEqual(['start', 'cancel', 'ack'])
})

it('keeps an answer that has ended until the client has got it', async () => {
  const { relay, client, node, onClose } = await running()
  client.close(4000)
  await client.closed
  node.emit(branchEnd(0), done())
  expect(onClose).not.toHaveBeenCalled()
  const again = new TestClient(relay, { after: 0 })
  expect(await again.closed).toBe(1000)
  expect(again.seqs).toEqual([1, 2])
  await vi.waitFor(() => expect(onClose).toHaveBeenCalledOnce())
  expect(types(node.frames)).toEqual(['start', 'ack'])
})

it('sends keep-alives when there is nothing else to send, also before the first event', async () => {
  const connect = () => new Promise<NodeSocket>(() => {})
  const { relay } = setUp({ keepAliveMs: 5 }, { connect })
  const client = new TestClient(relay)
  client.generate()
  await vi.waitFor(() => expect(types(client.frames).slice(0, 2)).toEqual(['keep_alive', 'keep_alive']))
})

it('limits unacknowledged events, and merges the deltas that wait', async () => {
  const { client, node } = await running({}, { acks: true })
  const texts = (branch: number) => Array.from({ length: 300 }, (_, i) => delta(branch, `${branch}:${i} `))
  for (const event of texts(0)) node.emit(event)
  const at = texts(0).reduce((sum, { text }) => sum + text.length, 0)
  node.emit(fork(0, 1, at))
  for (let i = 0; i < 300; i++) node.emit(delta(0, 'x'), delta(1, 'y'))
  node.emit(branchEnd(1), branchEnd(0), done())
  await vi.waitFor(() => expect(client.seqs.at(-1)).toBe(255))
  client.send({ type: 'ack', seq: 255 })
  await vi.waitFor(() => expect(client.seqs.at(-1)).toBe(511))
  expect(client.frames.slice(256)).toEqual([
    {
      type: 'deltas',
      first: 256,
      seq: 300,
      texts: [{ branch: 0, text: expect.stringMatching(/^0:255 .*0:299 $/) }],
    },
    { ...fork(0, 1, at), seq: 301 },
    {
      type: 'deltas',
      first: 302,
      seq: 511,
      texts: [
        { branch: 0, text: 'x'.repeat(105) },
        { branch: 1, text: 'y'.repeat(105) },
      ],
    },
  ])
  client.send({ type: 'ack', seq: 511 })
  await vi.waitFor(() => expect(client.seqs.at(-1)).toBe(767))
  client.send({ type: 'ack', seq: 767 })
  expect(await client.closed).toBe(1000)
  expect(client.frames.at(-1)).toMatchObject({ type: 'done', seq: 904 })
})

it('sends a step of all branches as one frame to a client that acknowledges', async () => {
  const { client, node } = await running({}, { acks: true })
  node.emit({ type: 'fork', branch: 1, parent: 0, at: 0 }, delta(0, 'a'), delta(1, 'b'))
  node.emit(delta(0, 'c'))
  await vi.waitFor(() => expect(client.seqs.at(-1)).toBe(4))
  expect(client.frames.slice(1)).toEqual([
    { type: 'fork', branch: 1, parent: 0, at: 0, seq: 1 },
    {
      type: 'deltas',
      first: 2,
      seq: 3,
      texts: [
        { branch: 0, text: 'a' },
        { branch: 1, text: 'b' },
      ],
    },
    { type: 'delta', branch: 0, text: 'c', seq: 4 },
  ])
})

it('disconnects a client that stops reading; it may resume', async () => {
  const { relay, client, node, onClose } = await running({ stallMs: 5 }, { acks: true })
  for (let i = 0; i < 300; i++) node.emit(delta(0, 'x'))
  expect(await client.closed).toBe(4408)
  expect(onClose).not.toHaveBeenCalled()
  const again = new TestClient(relay, { acks: true, after: 255 })
  await vi.waitFor(() => expect(again.seqs.at(-1)).toBe(300))
})

it('refuses an acknowledgement of an event that was not sent', async () => {
  const { client } = await running({}, { acks: true })
  client.send({ type: 'ack', seq: 7 })
  await client.closed
  expect(client.frames.at(-1)).toMatchObject({ type: 'error', code: 'invalid_request' })
})
