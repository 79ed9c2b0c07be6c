import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { Registration } from '../../gpu-node/edge-link/registration.ts'
import { Heartbeat } from '../../shared/protocol/fleet.ts'
import { recorded } from '../support/logs.ts'

interface Call {
  method: string | undefined
  path: string | undefined
  authorization: string | undefined
  body: string
}

let edge: Server
let calls: Call[]
/** Scripted answers; `silence`: no answer. */
let answers: ({ status: number; body?: unknown } | 'silence')[]
const LEASE = { heartbeat_ms: 10, lease_ms: 30 }

beforeEach(async () => {
  calls = []
  answers = []
  edge = createServer(async (request, response) => {
    let body = ''
    for await (const chunk of request) body += chunk
    const { method, url: path, headers } = request
    calls.push({ method, path, authorization: headers.authorization, body })
    const next = answers.shift() ?? { status: 200, body: LEASE }
    if (next === 'silence') return
    const { status, body: answer } = next
    response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(answer ?? {}))
  })
  edge.listen(0, '127.0.0.1')
  await once(edge, 'listening')
})
afterEach(() => {
  vi.restoreAllMocks()
  edge.closeAllConnections()
  edge.close()
})

const heartbeat: Heartbeat = {
  url: 'ws://127.0.0.1:1',
  models: [{ id: 'tiny', created: 1, context_tokens: 256 }],
  capacity: { branches: 8, blocks: 64 },
  load: { running: 0, waiting: 0, free_blocks: 64 },
}

const edgeUrl = () => `http://127.0.0.1:${(edge.address() as AddressInfo).port}`

function register(url = edgeUrl()) {
  const { log, lines, entries } = recorded()
  const registration = new Registration({
    edgeUrl: url,
    nodeId: 'node-1',
    nodeSecret: 'secret',
    heartbeat: () => heartbeat,
    log,
  })
  return { registration, lines, entries }
}

test('sends a heartbeat at once, then repeatedly, and ends the registration on stop', async () => {
  const { registration } = register()
  expect(registration.holdsLease).toBe(false)
  await registration.registered
  await vi.waitFor(() => expect(calls.length).toBeGreaterThan(2))
  await registration.stop()
  expect(registration.holdsLease).toBe(false)
  const puts = calls.slice(0, -1)
  for (const call of puts) {
    expect(call).toMatchObject({
      method: 'PUT',
      path: '/internal/v1/nodes/node-1',
      authorization: 'Bearer secret',
    })
    expect(Heartbeat.parse(JSON.parse(call.body))).toEqual(heartbeat)
  }
  expect(calls.at(-1)).toMatchObject({ method: 'DELETE', path: '/internal/v1/nodes/node-1' })
})

test('retries when the edge fails, and logs it once', async () => {
  answers = [{ status: 503 }, { status: 200, body: { unexpected: true } }]
  const { registration, entries } = register()
  await registration.registered
  expect(calls.length).toBe(3)
  expect(entries()).toMatchObject([
    { level: 'warn', message: 'not registered', reason: expect.stringContaining('503') },
    { level: 'info', message: 'registered' },
  ])
  await registration.stop()
})

test('a heartbeat without an answer times out after 8 s, and another is sent', async () => {
  const late = new AbortController()
  const timeout = vi.spyOn(AbortSignal, 'timeout').mockReturnValueOnce(late.signal)
  answers = ['silence']
  const { registration, entries } = register()
  await vi.waitFor(() => expect(calls).toHaveLength(1))
  expect(timeout.mock.calls).toEqual([[8_000]])
  late.abort()
  await registration.registered
  expect(entries()).toMatchObject([
    { level: 'warn', message: 'not registered' },
    { level: 'info', message: 'registered' },
  ])
  await registration.stop()
})

test("logs the edge's reason", async () => {
  const error = { message: 'models.0.id: too long', code: 'invalid_request', type: 'x', param: null }
  answers = [{ status: 400, body: { error } }]
  const { registration, entries } = register()
  await registration.registered
  expect(entries()[0]).toMatchObject({
    reason: expect.stringContaining('answered 400: models.0.id: too long (invalid_request)'),
  })
  await registration.stop()
})

test('rejects `registered` when the secret is wrong', async () => {
  answers = Array.from({ length: 20 }, () => ({ status: 401 }))
  const { registration } = register()
  await expect(registration.registered).rejects.toMatchObject({ code: 'edge_refused' })
  await registration.stop()
})

test('stops while the edge cannot be reached', async () => {
  const url = edgeUrl()
  edge.close()
  const { registration, lines } = register(url)
  await vi.waitFor(() => expect(lines).toHaveLength(1))
  await registration.stop()
})

test('holds its lease only for the time that the edge has set', async () => {
  answers = [{ status: 200, body: { heartbeat_ms: 60_000, lease_ms: 200 } }]
  const { registration } = register()
  await registration.registered
  expect(registration.holdsLease).toBe(true)
  await vi.waitFor(() => expect(registration.holdsLease).toBe(false))
  await registration.stop()
})
