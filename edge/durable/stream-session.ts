import { DurableObject } from 'cloudflare:workers'
import { AparError } from '../../shared/errors.ts'
import type { Origin } from '../../shared/protocol/node.ts'
import type { GenerateRequest } from '../../shared/protocol/request.ts'
import { Admission, type Lease } from '../admission.ts'
import { type Env, fleetOf } from '../env.ts'
import { connectToNode } from '../gpu-node.ts'
import { logTrouble } from '../log.ts'
import type { Principal } from '../principal.ts'
import { readLease, readOrigin, readPrincipal, SESSION_HEADERS } from '../session.ts'
import { StreamRelay } from './stream-relay.ts'
import type { NodeAddress, Nodes } from './upstream.ts'

/** How often a session that lost its memory, and whose client does not come back, would be noticed. */
const CHECK_MS = 60_000
const RECORD = 'stream'
/** Nothing waits for these writes: they matter only to a session that is restarted. */
const UNCONFIRMED = { allowUnconfirmed: true }

/** All that a session stores, when a stream begins and when it moves: never a token. */
interface StreamRecord {
  /** A principal's id. */
  readonly owner: string | undefined
  readonly origin?: Origin | undefined
  readonly request: GenerateRequest
  readonly node: NodeAddress
}

/** Who began a stream, and how. */
interface Beginning {
  readonly principal: Principal | undefined
  readonly origin: Origin | undefined
  readonly resumable: boolean
  /** Its place in the principal's limits, when somebody took that already. */
  readonly lease?: Lease | undefined
}

/**
 * One stream: takes the client's WebSocket (or the worker's own, for SSE), and relays between it and a gpu node. The
 * object's id is the stream's name. Its memory is the stream's log; when that is lost, the gpu node still has it.
 */
export class StreamSession extends DurableObject<Env> {
  #relay: StreamRelay | undefined
  #owner: string | undefined

  /** A WebSocket: the stream's first client, or with `after` in the query one that comes back. */
  override async fetch(request: Request): Promise<Response> {
    const query = new URL(request.url).searchParams
    const principal = readPrincipal(request)
    const after = query.get('after')
    const { 0: client, 1: server } = new WebSocketPair()
    const relay =
      after === null
        ? this.#begin({
            principal,
            origin: readOrigin(request),
            resumable: request.headers.get(SESSION_HEADERS.resumable) !== 'no',
            lease: readLease(request),
          })
        : await this.#resume(principal)
    // Not hibernatable: the outgoing socket keeps this object awake anyway, and accepted sockets close at once.
    server.accept()
    if (relay) {
      relay.connect(server, {
        after: Number(after ?? -1),
        acks: query.get('flow') === 'ack',
        relayed: query.has('relayed'),
      })
    } else {
      refuse(server, Number(after))
    }
    return new Response(null, { status: 101, webSocket: client })
  }

  /** A safety net: without it the record of a stream whose client never comes back would stay for ever. */
  override async alarm(): Promise<void> {
    if (this.#relay) {
      await this.ctx.storage.setAlarm(Date.now() + CHECK_MS)
      return
    }
    // The gpu node, which nobody has read from since, ends the stream by itself.
    await this.ctx.storage.deleteAll()
  }

  #begin(beginning: Beginning): StreamRelay {
    this.#owner = beginning.principal?.id
    this.#relay = this.#newRelay(beginning)
    return this.#relay
  }

  async #resume(principal: Principal | undefined): Promise<StreamRelay | undefined> {
    if (this.#relay) return this.#owner === principal?.id ? this.#relay : undefined
    const record = await this.ctx.storage.get<StreamRecord>(RECORD)
    if (!record || record.owner !== principal?.id) return undefined
    // Another request may have been faster.
    if (this.#relay) return this.#relay
    const relay = this.#begin({ principal, origin: record.origin, resumable: true })
    relay.recover(record.request, record.node)
    return relay
  }

  #newRelay({ principal, origin, resumable, lease }: Beginning): StreamRelay {
    const stream = this.ctx.id.toString()
    const { storage } = this.ctx
    return new StreamRelay({
      stream,
      origin,
      nodes: this.#nodes,
      admit:
        principal &&
        (async (request) => {
          return lease
            ? Admission.adopt(this.env, principal, lease, request)
            : Admission.open(this.env, principal, [request])
        }),
      graceMs: resumable ? undefined : 0,
      onNode: (request, node) => {
        if (!resumable) return
        void storage.put<StreamRecord>(RECORD, { owner: principal?.id, origin, request, node }, UNCONFIRMED)
        void storage.setAlarm(Date.now() + CHECK_MS, UNCONFIRMED)
      },
      onOver: () => {
        this.#relay = undefined
        if (resumable) this.ctx.waitUntil(storage.deleteAll())
      },
      log: (why) => logTrouble(this.env, { stream, request_id: origin?.request_id }, why),
    })
  }

  readonly #nodes: Nodes = {
    pick: async ({ model, messages }, exclude) => {
      const choice = await fleetOf(this.env).pick({ model, exclude, affinity: beginning(messages) })
      if ('refused' in choice) throw refusal(choice.refused, model)
      return choice.node
    },
    connect: (node) => connectToNode(this.env, node),
    isAlive: (id) => fleetOf(this.env).isAlive(id),
    reportFailure: (id) => this.ctx.waitUntil(fleetOf(this.env).reportFailure(id)),
  }
}

/** What all turns of a conversation begin with, cut short. */
function beginning(messages: GenerateRequest['messages']): string {
  const first = messages.findIndex(({ role }) => role === 'user')
  return JSON.stringify(messages.slice(0, first + 1)).slice(0, 4096)
}

function refuse(socket: WebSocket, after: number): void {
  const message = 'there is no such stream, or it has ended'
  const error = { type: 'error', seq: after + 1, code: 'stream_not_found', message, param: null }
  socket.send(JSON.stringify(error))
  socket.close(1000)
}

function refusal(code: 'model_not_found' | 'no_gpu_node', model: string): AparError {
  return code === 'model_not_found'
    ? new AparError(code, `there is no model ${JSON.stringify(model)}; see /v1/models`, { param: 'model' })
    : new AparError(code, `no gpu node that serves ${JSON.stringify(model)} can be reached now`)
}
