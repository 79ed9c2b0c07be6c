import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import fc from 'fast-check'
import { afterEach, beforeEach, expect, test } from 'vitest'
import WebSocket, { WebSocketServer } from 'ws'
import { openStream, type StreamOptions } from '../../client/index.ts'
import { coalesce } from '../../shared/protocol/deltas.ts'
import type { StreamEvent } from '../../shared/protocol/events.ts'
import type { ClientFrame } from '../../shared/protocol/frames.ts'

/**
 * A fake edge with the events of one stream; it closes each connection after the number of frames that the test
 * sets.
 */
let http: Server
let sockets: WebSocketServer
let events: StreamEvent[]
let cuts: number[]
let frames: ClientFrame[]
let queries: URLSearchParams[]
let merge: boolean

beforeEach(async () => {
  frames = []
  queries = []
  merge = false
  http = createServer()
  sockets = new WebSocketServer({ noServer: true })
  http.on('upgrade', (request, socket, head) => {
    const query = new URL(request.url ?? '', 'http://edge').searchParams
    queries.push(query)
    sockets.handleUpgrade(request, socket, head, (accepted) => {
      accepted.on('error', () => {})
      accepted.on('message', (data) => frames.push(JSON.parse(String(data))))
      const after = Number(query.get('after') ?? -1)
      const rest = events.slice(after + 1)
      const all = merge ? coalesce(rest) : rest
      const cut = cuts.shift() ?? Number.POSITIVE_INFINITY
      // The first event always arrives: without the stream's name the client cannot resume.
      const now = all.slice(0, after < 0 ? Math.max(1, cut) : cut)
      now.forEach((frame, index) => {
        if (index % 3 === 0) accepted.send('{"type":"keep_alive"}')
        accepted.send(JSON.stringify(frame))
      })
      if (now.length < all.length) setTimeout(() => accepted.terminate(), 1)
    })
  })
  http.listen(0, '127.0.0.1')
  await once(http, 'listening')
})
afterEach(() => {
  for (const socket of sockets.clients) socket.terminate()
  http.close()
})

function open(more: Partial<StreamOptions> = {}) {
  const baseUrl = `http://127.0.0.1:${(http.address() as AddressInfo).port}`
  const request = { model: 'm', messages: [{ role: 'user' as const, content: 'hi' }] }
  return openStream({ baseUrl, apiKey: 'apar_k_secret', request, WebSocket, ...more })
}

const usage = {
  prompt_tokens: 1,
  cached_prompt_tokens: 0,
  completion_tokens: 2,
  total_tokens: 3,
  branches: [],
}

/** An answer of two branches; `order` gives the branch of each delta. */
function answer(order: readonly number[]): StreamEvent[] {
  const body = order.map((branch, index) => ({ type: 'delta' as const, branch, text: `${branch}.${index} ` }))
  return [
    {
      type: 'accepted' as const,
      version: 1 as const,
      stream: 's1',
      model: 'm',
      joints: 'kept' as const,
      created: 1,
    },
    { type: 'fork' as const, branch: 1, parent: 0, at: 0 },
    ...body,
    { type: 'done' as const, reason: 'stop' as const, usage },
  ].map((event, seq) => ({ ...event, seq }))
}

const orders = fc.array(fc.nat(1), { maxLength: 120 })
const anyCuts = fc.array(fc.nat(30), { maxLength: 4 })

test('a stream whose connection breaks anywhere and any number of times delivers each event once and in order', {
  timeout: 60_000,
}, async () => {
  await fc.assert(
    fc.asyncProperty(orders, anyCuts, async (order, at) => {
      events = answer(order)
      cuts = [...at]
      const seen: StreamEvent[] = []
      for await (const event of open()) seen.push(event)
      expect(seen).toEqual(events)
    }),
    { numRuns: 40 },
  )
})

test('merged deltas give the same text, also when the connection breaks', { timeout: 60_000 }, async () => {
  merge = true
  await fc.assert(
    fc.asyncProperty(orders, anyCuts, async (order, at) => {
      events = answer(order)
      cuts = [...at]
      const stream = open()
      const own = (branch: number) =>
        events
          .flatMap((event) => (event.type === 'delta' && event.branch === branch ? event.text : []))
          .join('')
      await stream.text()
      expect(stream.tree.branches().map(({ text }) => text)).toEqual([own(0), own(1)])
    }),
    { numRuns: 20 },
  )
})

test('acknowledges received events', async () => {
  events = answer(Array(100).fill(0))
  cuts = []
  await open().text()
  await expect.poll(() => frames.filter(({ type }) => type === 'ack').length).toBeGreaterThanOrEqual(3)
  expect(queries[0]?.get('flow')).toBe('ack')
})

test('a cancel without a connection is sent after reconnecting', async () => {
  events = answer([0, 0])
  cuts = [1]
  const stream = open()
  for await (const event of stream) if (event.type === 'accepted') stream.cancel()
  await expect.poll(() => frames.map(({ type }) => type)).toContain('cancel')
  expect(queries.at(-1)?.get('stream')).toBe('s1')
})

test('gives up after reconnectMs', async () => {
  events = answer([0])
  cuts = Array(100).fill(0)
  await expect(open({ reconnectMs: 50 }).text()).rejects.toMatchObject({ code: 'gpu_node_lost' })
})

test('fails when an event is missing', async () => {
  events = answer([0, 0, 0]).filter(({ seq }) => seq !== 3)
  cuts = []
  await expect(open().text()).rejects.toMatchObject({ code: 'internal_error' })
})
