import { abortAllDurableObjects, env, runInDurableObject } from 'cloudflare:test'
import { afterEach, expect, it, vi } from 'vitest'
import { fleetOf } from '../../edge/nodes/fleet.ts'
import { LEASE } from '../../edge/nodes/lease.ts'
import { dialledInNodeOf } from '../../edge/nodes/node-socket.ts'
import { isAllowedHost } from '../../edge/routes/nodes.ts'
import { MAX_MESSAGE_CHARS } from '../../shared/protocol/dial-in.ts'
import {
  accepted,
  Client,
  call,
  deregister,
  done,
  fakeNodeUrl,
  heartbeat,
  NODE_SECRET,
  register,
} from './support.ts'

afterEach(async () => {
  vi.useRealTimers()
  vi.restoreAllMocks()
  await Promise.all(['a', 'b', 'c'].map(deregister))
})

async function modelIds(): Promise<string[]> {
  const response = await call('/v1/models')
  expect(response.status).toBe(200)
  const { data } = await response.json<{ data: { id: string }[] }>()
  return data.map(({ id }) => id)
}

async function errorOf(fields: object = {}): Promise<object | undefined> {
  const client = await Client.generate([accepted, done()], fields)
  return (await client.rest()).find(({ type }) => type === 'error')
}

it('grants a lease, and lists models in the format of OpenAI', async () => {
  expect(await modelIds()).toEqual([])
  const lease = await register('a')
  expect(await lease.json()).toEqual(LEASE)
  expect(await (await call('/v1/models')).json()).toEqual({
    object: 'list',
    data: [
      {
        id: 'demo',
        object: 'model',
        created: 1_700_000_000,
        owned_by: 'apar',
        max_model_len: 512,
        context_tokens: 512,
      },
    ],
  })
})

it('forgets a node that deregisters', async () => {
  await register('a')
  expect((await deregister('a')).status).toBe(204)
  expect(await modelIds()).toEqual([])
  expect((await deregister('a')).status).toBe(404)
})

it('forgets a node whose lease has expired, and accepts it again at its next heartbeat', async () => {
  await register('a')
  vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + LEASE.lease_ms - 1000 })
  expect(await modelIds()).toEqual(['demo'])
  vi.setSystemTime(Date.now() + 1000)
  expect(await modelIds()).toEqual([])
  await register('a')
  expect(await modelIds()).toEqual(['demo'])
})

it('remembers its nodes after an eviction', async () => {
  await register('a')
  const models = [{ id: 'other', created: 1, context_tokens: 8 }]
  await register('b', heartbeat({ url: `${fakeNodeUrl}/b`, models }))
  await deregister('b')
  await abortAllDurableObjects()
  expect(await modelIds()).toEqual(['demo'])
  expect(await fleetOf(env).pick({ model: 'other', exclude: [] })).toMatchObject({ refused: 'no_gpu_node' })
})

it('stores a node when it comes, changes or goes, not its heartbeats', async () => {
  const rows = () =>
    runInDurableObject(fleetOf(env), (_, { storage }) =>
      storage.sql.exec("SELECT heartbeat, expires_at FROM node WHERE id = 'stored'").toArray(),
    )
  const load = (running: number) => ({ running, waiting: 0, free_blocks: 100 })
  const url = `${fakeNodeUrl}/stored`
  await register('stored', heartbeat({ url, load: load(1) }))
  const first = await rows()
  expect(first).toHaveLength(1)
  await register('stored', heartbeat({ url, load: load(2) }))
  expect(await rows()).toEqual(first)
  await register('stored', heartbeat({ url, load: load(3), draining: true }))
  expect(await rows()).not.toEqual(first)
  await deregister('stored')
  const [gone] = await rows()
  expect(gone?.expires_at).toBeLessThanOrEqual(Date.now())
})

it('refuses a registration with a wrong secret, id or url', async () => {
  const path = '/internal/v1/nodes/a'
  const put = (json: unknown, key = NODE_SECRET, to = path) => call(to, { method: 'PUT', json, key })
  for (const key of ['wrong', `${NODE_SECRET}x`]) {
    const response = await put(heartbeat(), key)
    expect(response.status).toBe(401)
    expect(await response.json()).toMatchObject({ error: { code: 'invalid_node_secret' } })
  }
  expect((await call(path, { method: 'DELETE', key: 'wrong' })).status).toBe(401)
  const badUrl = await put({ ...heartbeat(), url: 'http://x' })
  expect(badUrl.status).toBe(400)
  expect(await badUrl.json()).toMatchObject({ error: { code: 'invalid_request', param: 'url' } })
  expect((await put(heartbeat(), NODE_SECRET, '/internal/v1/nodes/a%20b')).status).toBe(400)
  expect((await call(path, { key: NODE_SECRET })).headers.get('allow')).toBe('PUT, DELETE')
  expect(await modelIds()).toEqual([])
})

it('refuses a node that dials in with a wrong secret or id', async () => {
  const path = '/internal/v1/nodes/a/socket'
  const upgrade = { headers: { upgrade: 'websocket' } }
  expect((await call(path, { ...upgrade, key: 'wrong' })).status).toBe(401)
  expect((await call('/internal/v1/nodes/a%20b/socket', { ...upgrade, key: NODE_SECRET })).status).toBe(400)
  expect((await call(path, { key: NODE_SECRET })).status).toBe(426)
  const { url: _, ...condition } = heartbeat()
  const response = await call('/internal/v1/nodes/a', { method: 'PUT', json: condition, key: NODE_SECRET })
  expect(await response.json()).toMatchObject({ error: { code: 'invalid_request', param: 'url' } })
  expect(await modelIds()).toEqual([])
})

async function dialIn(id: string): Promise<WebSocket> {
  const headers = { upgrade: 'websocket' }
  const { webSocket } = await call(`/internal/v1/nodes/${id}/socket`, { headers, key: NODE_SECRET })
  if (!webSocket) throw new Error('there is no socket')
  webSocket.accept()
  return webSocket
}

function closing(webSocket: WebSocket): Promise<CloseEvent> {
  return new Promise((resolve) => webSocket.addEventListener('close', resolve, { once: true }))
}

let lastId = 0

it.each([
  ['an empty list of frames', '{"type": "step", "frames": []}', 'invalid_request'],
  ['no JSON', '{', 'invalid_json'],
  ['bytes', new Uint8Array([1]), 'invalid_request'],
])(
  'suspends a node that has dialled in and sends %s, and logs a code, not a stack',
  async (_, message, code) => {
    const node = `nonsense-${++lastId}`
    const lines: string[] = []
    const error = vi.spyOn(console, 'error')
    vi.spyOn(console, 'warn').mockImplementation((line) => void lines.push(line))
    const webSocket = await dialIn(node)
    const closed = closing(webSocket)
    webSocket.send(message)
    expect(await closed).toMatchObject({ code: 4400 })
    await vi.waitFor(() => expect(lines).toHaveLength(1))
    expect(JSON.parse(lines[0] ?? '')).toMatchObject({ node, code, seconds: 60 })
    expect(lines.join()).not.toMatch(/\n|\.[jt]s:|node-channels/)
    expect(error).not.toHaveBeenCalled()
  },
)

it('does not suspend a node that has dialled in and sends a message that is too long', async () => {
  const warn = vi.spyOn(console, 'warn').mockImplementation(() => {})
  const error = vi.spyOn(console, 'error').mockImplementation(() => {})
  const webSocket = await dialIn('talkative')
  const closed = closing(webSocket)
  webSocket.send(' '.repeat(MAX_MESSAGE_CHARS + 1))
  expect(await closed).toMatchObject({ code: 4400 })
  expect([...warn.mock.calls, ...error.mock.calls].join()).toContain(`${MAX_MESSAGE_CHARS + 1} characters`)
  expect(await fleetOf(env).suspendedMs('talkative')).toBe(0)
})

it('waits for a node that has not dialled in yet, and only briefly for one that has lost its socket', async () => {
  const channel = () =>
    dialledInNodeOf(env, 'b').fetch('https://node/channel', { headers: { upgrade: 'websocket' } })
  const early = channel()
  const first = await dialIn('b')
  expect((await early).status).toBe(101)
  const closed = closing(first)
  first.close()
  await closed
  const waiting = channel()
  await dialIn('b')
  expect((await waiting).status).toBe(101)
  vi.useFakeTimers({ toFake: ['Date'] })
  const second = await dialIn('b')
  const lost = closing(second)
  second.close()
  await lost
  // The time to dial in again is over.
  vi.setSystemTime(Date.now() + 60_000)
  expect((await channel()).status).toBe(503)
})

it('keeps a node that has dialled in until it breaks the protocol, and refuses it for a while then', async () => {
  vi.useFakeTimers({ toFake: ['Date'] })
  const webSocket = await dialIn('breaking')
  const answer = new Promise((resolve) => webSocket.addEventListener('message', resolve, { once: true }))
  const { url: _, ...condition } = heartbeat()
  webSocket.send(JSON.stringify({ type: 'heartbeat', heartbeat: condition }))
  expect(JSON.parse(String(((await answer) as MessageEvent).data))).toEqual({ type: 'lease', ...LEASE })
  expect(await modelIds()).toEqual(['demo'])
  const closed = closing(webSocket)
  webSocket.send('{"type": "step", "frames": []}')
  expect(await closed).toMatchObject({ code: 4400 })
  await vi.waitFor(async () => expect(await modelIds()).toEqual([]))
  const headers = { upgrade: 'websocket' }
  const again = await call('/internal/v1/nodes/breaking/socket', { headers, key: NODE_SECRET })
  expect([again.status, again.headers.get('retry-after')]).toEqual([503, '60'])
  expect(await again.json()).toMatchObject({ error: { code: 'node_suspended' } })
  expect((await register('breaking')).status).toBe(503)
  vi.setSystemTime(Date.now() + 60_000)
  await dialIn('breaking')
})

it('connects only to hosts that the configuration allows', async () => {
  for (const url of [
    'ws://10.0.0.1:80',
    'wss://nodes.example.com',
    'ws://localhost.example.com',
    'ws://169.254.169.254',
  ]) {
    const response = await register('a', heartbeat({ url }))
    expect(response.status).toBe(403)
    expect(await response.json()).toMatchObject({ error: { code: 'node_host_not_allowed', param: 'url' } })
  }
  const allowed = 'gpu.example.com, *.nodes.example.com'
  expect(isAllowedHost('gpu.example.com', allowed)).toBe(true)
  expect(isAllowedHost('a.nodes.example.com', allowed)).toBe(true)
  expect(isAllowedHost('nodes.example.com.evil.org', allowed)).toBe(false)
  expect(isAllowedHost('127.0.0.1', allowed)).toBe(false)
})

it('lets a request wait a little for a node that comes back', async () => {
  const waiting = Client.generate([accepted, done()])
  const client = await waiting
  await register('a')
  expect((await client.rest()).map(({ type }) => type)).toEqual(['accepted', 'done'])
})

it('distinguishes an unknown model from a model whose nodes are gone', async () => {
  expect(await errorOf({ model: 'nope' })).toMatchObject({ code: 'no_gpu_node' })
  await register('a', heartbeat({ models: [{ id: 'rare', created: 1, context_tokens: 8 }] }))
  await deregister('a')
  await register('b')
  expect(await errorOf({ model: 'nope' })).toMatchObject({ code: 'model_not_found', param: 'model' })
  expect(await errorOf({ model: 'rare' })).toMatchObject({ code: 'no_gpu_node' })
})

it('skips nodes that cannot be reached or are busy', async () => {
  vi.spyOn(console, 'error').mockImplementation(() => {})
  const idle = { running: 0, waiting: 0, free_blocks: 1 }
  await register('a', heartbeat({ url: 'ws://127.0.0.1:1', load: idle }))
  await register('b', heartbeat({ url: `${fakeNodeUrl}/busy`, load: idle }))
  expect(await errorOf()).toMatchObject({ code: 'no_gpu_node' })
  await register('c', heartbeat({ load: { ...idle, running: 5 } }))
  expect(await errorOf()).toBeUndefined()
})
