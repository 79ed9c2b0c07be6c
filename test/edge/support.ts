import { env, runInDurableObject, SELF } from 'cloudflare:test'
import { expect, inject, vi } from 'vitest'
import { recordsOf } from '../../edge/streams/stream-records.ts'
import type { StreamEvent } from '../../shared/protocol/events.ts'
import type { Heartbeat } from '../../shared/protocol/fleet.ts'

declare module 'vitest' {
  interface ProvidedContext {
    fakeNodeUrl: string
    races: number
  }
}

export const KEY = `apar_test_${'s'.repeat(32)}`
export const SLOW_KEY = `apar_slow_${'s'.repeat(32)}`
export const ADMIN_KEY = 'admin-key-of-the-tests'
export const NODE_SECRET = 'node-secret-of-the-tests'
export const fakeNodeUrl = inject('fakeNodeUrl')

/** A request to the worker; `json` becomes the body. */
export function call(
  path: string,
  { json, key = KEY, ...init }: RequestInit & { json?: unknown; key?: string } = {},
): Promise<Response> {
  const headers = new Headers({ authorization: `Bearer ${key}` })
  new Headers(init.headers).forEach((value, name) => {
    headers.set(name, value)
  })
  const body = json === undefined ? (init.body ?? null) : JSON.stringify(json)
  return SELF.fetch(`http://edge${path}`, { ...init, headers, body })
}

export function admin(path: string, init: RequestInit & { json?: unknown; key?: string } = {}) {
  return call(`/admin/v1/keys${path}`, { key: ADMIN_KEY, ...init })
}

/** A new key with these settings. */
export async function newKey(settings: object = {}): Promise<{ id: string; key: string }> {
  const response = await admin('', { method: 'POST', json: settings })
  if (response.status !== 201) throw new Error(`${response.status} ${await response.text()}`)
  return response.json()
}

export function heartbeat(fields: Partial<Heartbeat> & { models?: Heartbeat['models'] } = {}): Heartbeat {
  return {
    url: fakeNodeUrl,
    models: [{ id: 'demo', created: 1_700_000_000, context_tokens: 512 }],
    capacity: { branches: 8, blocks: 100 },
    load: { running: 0, waiting: 0, free_blocks: 100 },
    ...fields,
  }
}

export function register(id: string, json = heartbeat()): Promise<Response> {
  return call(`/internal/v1/nodes/${id}`, { method: 'PUT', json, key: NODE_SECRET })
}

let nodes = 0

/**
 * Registers two new nodes at the fake node, in place of the last two: a stream that leaves one of them, which may have
 * been suspended, goes on at the other.
 */
export async function registerTwo(): Promise<string[]> {
  const ids = ['a', 'b'].map((name) => `${name}${++nodes}`)
  for (const id of ids) await register(id, heartbeat({ url: `${fakeNodeUrl}/${id[0]}` }))
  return ids
}

export function deregister(id: string): Promise<Response> {
  return call(`/internal/v1/nodes/${id}`, { method: 'DELETE', key: NODE_SECRET })
}

/** The frames that the fake node got for a stream, once the stream's sockets have closed. */
export async function framesSeenByNode(stream: string): Promise<Record<string, unknown>[]> {
  const response = await fetch(`${fakeNodeUrl.replace('ws', 'http')}/seen/${stream}`)
  return response.json()
}

/** As a runtime update does: memory and connections are lost, what is stored is kept. */
export async function evict(stream: string): Promise<void> {
  // The session does not wait until its record is stored.
  await vi.waitFor(async () => expect(await recordsOf(env, stream).get(stream)).toBeDefined())
  const session = env.STREAM_SESSION.get(env.STREAM_SESSION.idFromString(stream))
  await runInDurableObject(session, (_, state) => state.abort('evicted by a test')).catch(() => {})
}

/** As if so much time had passed for the stream's record. */
export async function age(stream: string, ms: number): Promise<void> {
  await runInDurableObject(recordsOf(env, stream), (_, { storage }) => {
    storage.sql.exec('UPDATE stream SET expires_at = expires_at - ? WHERE id = ?', ms, stream)
  })
}

export function request(steps: unknown[], fields: object = {}) {
  return { model: 'demo', messages: [{ role: 'user', content: JSON.stringify(steps) }], ...fields }
}

/** A client's end of `/v1/stream`. */
export class Client {
  readonly response: Response
  readonly #socket: WebSocket
  readonly #events: StreamEvent[] = []
  #closed = false
  #wake = () => {}

  private constructor(response: Response, socket: WebSocket) {
    this.response = response
    this.#socket = socket
    socket.addEventListener('message', ({ data }) => {
      this.#events.push(JSON.parse(String(data)))
      this.#wake()
    })
    socket.addEventListener('close', () => {
      this.#closed = true
      this.#wake()
    })
    socket.accept()
  }

  static async open(query = '', key = KEY, protocol = 'apar.v1'): Promise<Client> {
    const headers = { upgrade: 'websocket', 'sec-websocket-protocol': protocol }
    const response = await call(`/v1/stream${query}`, { headers, key })
    if (!response.webSocket) throw new Error(`${response.status} ${await response.text()}`)
    return new Client(response, response.webSocket)
  }

  static async generate(steps: unknown[], fields: object = {}): Promise<Client> {
    const client = await Client.open()
    client.send({ type: 'generate', ...request(steps, fields) })
    return client
  }

  static resume(stream: string, after: number, key = KEY): Promise<Client> {
    return Client.open(`?stream=${stream}&after=${after}`, key)
  }

  send(frame: unknown): void {
    this.#socket.send(typeof frame === 'string' ? frame : JSON.stringify(frame))
  }

  close(): void {
    this.#socket.close(1000)
  }

  /** Looks to the edge like a lost connection: 4000 is none of the codes of an intended close. */
  disconnect(): void {
    this.#socket.close(4000)
  }

  /** The next event; undefined once the socket has closed. */
  async next(): Promise<StreamEvent | undefined> {
    while (this.#events.length === 0 && !this.#closed) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
    return this.#events.shift()
  }

  /** All events until the socket closes. */
  async rest(): Promise<StreamEvent[]> {
    const events: StreamEvent[] = []
    for (let event = await this.next(); event; event = await this.next()) events.push(event)
    return events
  }
}

export const accepted = {
  type: 'accepted',
  version: 1,
  model: 'demo',
  joints: 'kept',
  created: 1_700_000_000,
}

export function delta(branch: number, text: string) {
  return { type: 'delta', branch, text }
}

export function fork(parent: number, branch: number, at: number) {
  return { type: 'fork', parent, branch, at }
}

export function branchEnd(branch: number, reason = 'stop') {
  return { type: 'branch_end', branch, reason }
}

export function done(reason = 'stop', completion_tokens = 7) {
  const usage = {
    prompt_tokens: 5,
    cached_prompt_tokens: 2,
    completion_tokens,
    total_tokens: 5 + completion_tokens,
    branches: [],
  }
  return { type: 'done', reason, usage }
}
