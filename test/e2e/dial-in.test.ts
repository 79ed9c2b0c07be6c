import { afterEach, beforeAll, expect, test, vi } from 'vitest'
import WebSocket from 'ws'
import { newApiKey, newNodeSecret } from '../../cli/keys.ts'
import { type LocalEdge, startLocalEdge } from '../../cli/local/edge.ts'
import { type BranchStream, openStream, type StreamEvent } from '../../client/index.ts'
import { buildEdge } from '../../edge/build.mjs'
import { type GpuNode, startGpuNode } from '../../gpu-node/main.ts'
import { packageRoot } from '../../gpu-node/package-root.ts'
import { type CuttableProxy, startProxy } from '../support/cuttable-proxy.ts'
import { silent } from '../support/logs.ts'
import { startFleet } from './fleet.ts'

const PROMPTS = ['How do I use tar?', 'How do I use git stash?', 'What is a symbolic link?']

interface Dialled {
  readonly url: string
  readonly key: string
  readonly proxy: CuttableProxy
  readonly node: GpuNode
}

const ends: (() => Promise<unknown>)[] = []
beforeAll(() => buildEdge())
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end()
})

async function startEdge(nodeSecret: string): Promise<LocalEdge & { key: string }> {
  const { key, record } = newApiKey('test', 100_000)
  // The edge can connect to no host, so every node that serves has dialled in.
  const settings = { NODE_HOSTS: 'nowhere.invalid' }
  const edge = await startLocalEdge({ host: '127.0.0.1', port: 0, apiKeys: [record], nodeSecret, settings })
  ends.push(edge.close)
  return { ...edge, key }
}

async function startDialledNode(edgeUrl: string, nodeSecret: string): Promise<GpuNode> {
  const node = await startGpuNode({
    modelDir: `${packageRoot}/models/demo`,
    threads: 1,
    nodeSecret,
    edgeUrl,
    dialIn: true,
    log: silent,
  })
  ends.push(node.close)
  return node
}

/** An edge, a node that has dialled in, and between them a proxy that can cut the connection as a router may. */
async function start(): Promise<Dialled> {
  const nodeSecret = newNodeSecret()
  const { url, key } = await startEdge(nodeSecret)
  const proxy = await startProxy(url)
  ends.push(proxy.close)
  const node = await startDialledNode(proxy.url, nodeSecret)
  await node.registered
  return { url, key, proxy, node }
}

function open({ url, key }: { url: string; key: string }, prompt = PROMPTS[0] ?? '', more: object = {}) {
  const messages = [{ role: 'user' as const, content: prompt }]
  const request = { model: 'demo', messages, temperature: 0, max_tokens: 700, ...more }
  return openStream({ baseUrl: url, apiKey: key, request, WebSocket })
}

/** Reads to the end. The client throws when an event is missing or comes twice. */
async function read(stream: BranchStream, onEvent: (event: StreamEvent, count: number) => unknown) {
  let count = 0
  let last: StreamEvent | undefined
  for await (const event of stream) {
    last = event
    await onEvent(event, ++count)
  }
  expect(last).toMatchObject({ type: 'done', reason: 'stop' })
}

/** Stops reading after its first event until `readOn` is called. Throws when an event is missing or comes twice. */
class SlowClient {
  next = 0
  ended = false
  readonly #socket: WebSocket
  readonly #closed: Promise<void>

  constructor({ url, key }: Dialled) {
    this.#socket = new WebSocket(`${url.replace('http', 'ws')}/v1/stream`, {
      headers: { authorization: `Bearer ${key}` },
    })
    this.#socket.on('open', () => {
      const messages = [{ role: 'user', content: PROMPTS[0] }]
      // Large events, and no branch that ends by itself.
      const request = { model: 'demo', messages, temperature: 0, logprobs: 20, logit_bias: { 2: -100 } }
      this.#socket.send(JSON.stringify({ type: 'generate', ...request }))
    })
    this.#socket.on('message', (data) => this.#take(JSON.parse(String(data))))
    this.#closed = new Promise((resolve, reject) => {
      this.#socket.on('error', reject).on('close', () => resolve())
    })
  }

  /** Reads to the end. */
  async readOn(): Promise<void> {
    this.#socket.resume()
    await this.#closed
  }

  #take(frame: { type: string; seq: number }): void {
    if (frame.type === 'keep_alive') return
    if (frame.seq === 0) this.#socket.pause()
    expect(frame.seq).toBe(this.next++)
    this.ended = frame.type === 'done'
  }
}

test('serves many concurrent streams, with the same texts as a node that the edge connects to', async () => {
  const dialled = await start()
  const fleet = await startFleet({ nodes: 1 })
  ends.push(fleet.close)
  const whole = await Promise.all(PROMPTS.map((prompt) => open(fleet, prompt).text()))
  const prompts = Array.from({ length: 24 }, (_, index) => index % PROMPTS.length)
  const texts = await Promise.all(prompts.map((index) => open(dialled, PROMPTS[index]).text()))
  expect(texts).toEqual(prompts.map((index) => whole[index]))
})

test.each([3, 10, 25])('a socket that is cut at event %i loses no event', async (at) => {
  const dialled = await start()
  const whole = await Promise.all(PROMPTS.map((prompt) => open(dialled, prompt).text()))
  const streams = PROMPTS.map((prompt) => open(dialled, prompt))
  let cuts = 0
  await Promise.all(
    streams.map((stream, index) =>
      read(stream, (_, count) => {
        if (index === 0 && count === at) cuts += dialled.proxy.cut()
      }),
    ),
  )
  expect(cuts).toBe(1)
  expect(streams.map((stream) => stream.tree.text())).toEqual(whole)
})

test('clients that stop reading do not delay other streams on the socket, and lose nothing', async () => {
  const dialled = await start()
  const whole = await Promise.all(PROMPTS.map((prompt) => open(dialled, prompt).text()))
  const slow = Array.from({ length: 4 }, () => new SlowClient(dialled))
  await vi.waitFor(() => expect(slow.every(({ next }) => next > 0)).toBe(true), 10_000)
  const texts = await Promise.all([...PROMPTS, ...PROMPTS].map((prompt) => open(dialled, prompt).text()))
  expect(texts).toEqual([...whole, ...whole])
  // The node has sent everything and is idle: what the clients have not read waits at the edge.
  await vi.waitFor(() => expect(dialled.node.runner.stats()).toMatchObject({ runningRequests: 0 }), 30_000)
  expect(slow.map(({ ended }) => ended)).toEqual([false, false, false, false])
  await Promise.all(slow.map((client) => client.readOn()))
  expect(slow.map(({ ended }) => ended)).toEqual([true, true, true, true])
})

test('a cancel frees the blocks of its stream', async () => {
  const dialled = await start()
  const stats = () => dialled.node.runner.stats()
  const stream = open(dialled, 'What is a shell?', { temperature: 2, seed: 1, max_tokens: 900 })
  for await (const event of stream) if (event.type === 'delta') break
  await vi.waitFor(() => expect(stats()).toMatchObject({ runningRequests: 0, liveBranches: 0 }), 10_000)
})

test('a node dials in again to an edge that was restarted, which finds its streams', async () => {
  const fleet = await startFleet({ nodes: 1, nodeArgs: ['--dial-in'] })
  ends.push(fleet.close)
  const whole = await open(fleet).text()
  const stream = open(fleet)
  let restarted = false
  await read(stream, async (event) => {
    if (event.type !== 'fork' || restarted) return
    restarted = true
    await fleet.restartEdge()
  })
  expect(restarted).toBe(true)
  expect(stream.tree.text()).toBe(whole)
})

test.each(['killBusiest', 'terminateBusiest'] as const)(
  '%s: another node continues the streams',
  async (end) => {
    const fleet = await startFleet({ nodes: 2, nodeArgs: ['--dial-in'], drainSeconds: 0 })
    ends.push(fleet.close)
    const whole = await Promise.all(PROMPTS.map((prompt) => open(fleet, prompt).text()))
    // So many that no machine is through before the node has ended.
    const rounds = Array.from({ length: 6 })
    const streams = rounds.flatMap(() => PROMPTS.map((prompt) => open(fleet, prompt)))
    let finished = 0
    let ended: Promise<void> | undefined
    await Promise.all(
      streams.map(async (stream) => {
        await read(stream, () => {
          ended ??= fleet[end]().then(() => expect(finished).toBeLessThan(streams.length))
        })
        finished++
      }),
    )
    await ended
    expect(streams.map((stream) => stream.tree.text())).toEqual(rounds.flatMap(() => whole))
  },
)

test('a node without the right secret cannot dial in', async () => {
  const { url } = await startEdge(newNodeSecret())
  const node = await startDialledNode(url, newNodeSecret())
  await expect(node.registered).rejects.toMatchObject({ code: 'edge_refused' })
  const { status } = await fetch(`${url}/readyz`)
  expect(status).toBe(503)
})
