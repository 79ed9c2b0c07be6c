import { expect, it, vi } from 'vitest'
import { type RelayOptions, StreamRelay } from '../../edge/durable/stream-relay.ts'
import type { NodeSocket } from '../../edge/gpu-node.ts'
import type { NodeFrame } from '../../shared/protocol/frames.ts'
import { accepted } from './support.ts'

class RecordingNode implements NodeSocket {
  readonly frames: NodeFrame[] = []
  closed = false
  emit: (event: object) => void = () => {}

  send(frame: NodeFrame): void {
    this.frames.push(frame)
  }

  listen(onEvent: (text: string) => void): void {
    this.emit = (event) => onEvent(JSON.stringify(event))
  }

  close(): void {
    this.closed = true
  }
}

function relay(options: Partial<RelayOptions> = {}) {
  const { 0: client, 1: server } = new WebSocketPair()
  const node = new RecordingNode()
  const events: { type: string; code?: string }[] = []
  const closed = new Promise<void>((resolve) => {
    client.addEventListener('close', () => resolve())
  })
  client.addEventListener('message', ({ data }) => {
    events.push(JSON.parse(String(data)))
  })
  client.accept()
  server.accept()
  new StreamRelay(server, {
    stream: 's',
    openNode: async () => ({ id: 'node', socket: node }),
    isNodeAlive: async () => true,
    log: () => {},
    ...options,
  })
  const generate = () =>
    client.send(
      JSON.stringify({ type: 'generate', model: 'demo', messages: [{ role: 'user', content: 'hi' }] }),
    )
  return { client, node, events, closed, generate }
}

it('closes a client that never asks for anything', async () => {
  const { events, closed } = relay({ generateTimeoutMs: 1 })
  await closed
  expect(events).toMatchObject([{ type: 'error', seq: 0, code: 'invalid_request' }])
})

it('gives a silent node up when its lease has ended, and not before', async () => {
  let alive = true
  const isNodeAlive = vi.fn(async () => alive)
  const { node, events, closed, generate } = relay({ silenceMs: 1, isNodeAlive })
  generate()
  await vi.waitFor(() => expect(node.frames).toMatchObject([{ type: 'start' }]))
  node.emit({ ...accepted, stream: 's', seq: 0 })
  await vi.waitFor(() => expect(isNodeAlive.mock.calls.length).toBeGreaterThan(3))
  expect(node.closed).toBe(false)
  alive = false
  await closed
  expect(events).toMatchObject([{ type: 'accepted' }, { type: 'error', seq: 1, code: 'gpu_node_lost' }])
  expect(node.frames.at(-1)).toEqual({ type: 'cancel' })
  expect(node.closed).toBe(true)
})

it('starts nothing for a client that left while the node was looked for', async () => {
  const node = new RecordingNode()
  let found = (_: { id: string; socket: NodeSocket }) => {}
  const openNode = () => new Promise<{ id: string; socket: NodeSocket }>((resolve) => (found = resolve))
  const opening = vi.fn(openNode)
  const { client, closed, generate } = relay({ openNode: opening })
  generate()
  await vi.waitFor(() => expect(opening).toHaveBeenCalled())
  client.close()
  await closed
  found({ id: 'node', socket: node })
  await vi.waitFor(() => expect(node.closed).toBe(true))
  expect(node.frames).toEqual([])
})

it('hides what an unexpected error says, and logs it', async () => {
  const log = vi.fn()
  const openNode = async () => {
    throw new Error('secret detail')
  }
  const { events, closed, generate } = relay({ openNode, log })
  generate()
  await closed
  expect(events).toMatchObject([{ type: 'error', code: 'internal_error', message: 'internal error' }])
  expect(String(log.mock.calls[0]?.[0])).toContain('secret detail')
})
