import { DurableObject } from 'cloudflare:workers'
import { AparError } from '../../shared/errors.ts'
import { CLOSE_NORMAL } from '../../shared/protocol/close-codes.ts'
import { errorEvent } from '../../shared/protocol/events.ts'
import type { CallContext } from '../../shared/protocol/node.ts'
import type { GenerateRequest } from '../../shared/protocol/request.ts'
import type { Env } from '../env.ts'
import { Admission, type Lease } from '../keys/admission.ts'
import type { Principal } from '../keys/principal.ts'
import { logTrouble } from '../log.ts'
import { nodesOf } from '../nodes/fleet-nodes.ts'
import type { NodeAddress } from '../nodes/node-socket.ts'
import { readSessionHeaders } from './session-headers.ts'
import { StreamRelay } from './stream-relay.ts'

/** How often a session is looked at whose memory was lost. */
const CHECK_MS = 60_000
const RECORD = 'stream'
/** At the last look nobody had come back for the stream. */
const ABANDONED = 'abandoned'
/** Nothing waits for these writes: they matter only to a session that is restarted. */
const UNCONFIRMED = { allowUnconfirmed: true }

/** All that a session stores, when a stream begins and when it moves: never a token. */
interface StreamRecord {
  /** A principal's id. */
  readonly owner: string | undefined
  readonly origin?: CallContext | undefined
  readonly request: GenerateRequest
  readonly node: NodeAddress
  /** The stream's place in its owner's limits. */
  readonly lease: Lease | undefined
}

/** Who began a stream, and how. */
interface Beginning {
  readonly principal: Principal | undefined
  readonly callContext: CallContext | undefined
  /** Its place in the principal's limits, when somebody took that already. */
  readonly lease?: Lease | undefined
}

/**
 * One stream that can be resumed: takes the client's WebSocket (or the worker's own, for SSE), and relays between it and a gpu node. The
 * object's id is the stream's name. Its memory is the stream's log; when that is lost, the gpu node still has it.
 */
export class StreamSession extends DurableObject<Env> {
  #relay: StreamRelay | undefined
  #owner: string | undefined
  #lease: Lease | undefined
  #stored = false

  /** A WebSocket: the stream's first client, or with `after` in the query one that comes back. */
  override async fetch(request: Request): Promise<Response> {
    const query = new URL(request.url).searchParams
    const { principal, callContext, lease } = readSessionHeaders(request)
    const after = query.get('after')
    const { 0: client, 1: server } = new WebSocketPair()
    const relay =
      after === null ? this.#begin({ principal, callContext, lease }) : await this.#resume(principal)
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

  /** For clients without a socket to say it on. false: there is no such stream of this principal. */
  async cancel(principal: Principal): Promise<boolean> {
    const relay = await this.#resume(principal)
    relay?.cancel()
    return relay !== undefined
  }

  /** A safety net: without it the record of a stream whose client never comes back would stay for ever. */
  override async alarm(): Promise<void> {
    const { storage } = this.ctx
    // The gpu node, which nobody has read from since, ends the stream by itself.
    if (!this.#relay && (await storage.get(ABANDONED))) return await storage.deleteAll()
    // A memory may have been lost a moment ago, and the client be on its way back.
    if (!this.#relay) await storage.put(ABANDONED, true)
    await storage.setAlarm(Date.now() + CHECK_MS)
  }

  #begin(beginning: Beginning): StreamRelay {
    this.#owner = beginning.principal?.id
    this.#relay = this.#newRelay(beginning)
    return this.#relay
  }

  async #resume(principal: Principal | undefined): Promise<StreamRelay | undefined> {
    if (this.#relay) return this.#owner === principal?.id ? this.#relay : undefined
    const { storage } = this.ctx
    const record = await storage.get<StreamRecord>(RECORD)
    if (!record || record.owner !== principal?.id) return undefined
    // Another request may have been faster.
    if (this.#relay) return this.#relay
    const relay = this.#begin({ principal, callContext: record.origin, lease: record.lease })
    this.#stored = true
    void storage.delete(ABANDONED, UNCONFIRMED)
    relay.recover(record.request, record.node)
    return relay
  }

  #newRelay({ principal, callContext, lease }: Beginning): StreamRelay {
    const stream = this.ctx.id.toString()
    const { storage } = this.ctx
    return new StreamRelay({
      stream,
      callContext,
      nodes: nodesOf(this.env, (work) => this.ctx.waitUntil(work)),
      admit:
        principal &&
        (async (request) => {
          const admission = lease
            ? Admission.adopt(this.env, principal, lease, request)
            : await Admission.open(this.env, principal, [request])
          this.#lease = admission.lease
          return admission
        }),
      onNode: (request, node) => {
        this.#stored = true
        const record = { owner: principal?.id, origin: callContext, request, node, lease: this.#lease }
        void storage.put<StreamRecord>(RECORD, record, UNCONFIRMED)
        void storage.setAlarm(Date.now() + CHECK_MS, UNCONFIRMED)
      },
      onOver: () => {
        this.#relay = undefined
        // A file of the platform's is made at the first use of the storage, be it to find it empty.
        if (this.#stored) this.ctx.waitUntil(storage.deleteAll())
      },
      log: (why) => logTrouble(this.env, { stream, request_id: callContext?.request_id }, why),
    })
  }
}

function refuse(socket: WebSocket, after: number): void {
  const error = new AparError('stream_not_found', 'there is no such stream, or it has ended')
  socket.send(JSON.stringify(errorEvent(error, after + 1)))
  socket.close(CLOSE_NORMAL)
}
