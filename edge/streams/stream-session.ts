import { DurableObject } from 'cloudflare:workers'
import { AparError } from '../../shared/errors.ts'
import { CLOSE_NORMAL } from '../../shared/protocol/close-codes.ts'
import { errorEvent } from '../../shared/protocol/events.ts'
import type { CallContext } from '../../shared/protocol/node.ts'
import type { GenerateRequest } from '../../shared/protocol/request.ts'
import type { Env } from '../env.ts'
import { Admission, type Reservation } from '../keys/admission.ts'
import type { Principal } from '../keys/principal.ts'
import { keepSlot } from '../keys/socket-slot.ts'
import { logTrouble } from '../log.ts'
import { nodesOf } from '../nodes/fleet-nodes.ts'
import type { NodeAddress } from '../nodes/node-socket.ts'
import { readSessionHeaders } from './session-headers.ts'
import { StreamRelay } from './stream-relay.ts'

/** Period of the alarm that finds abandoned streams. */
const CHECK_MS = 60_000
const RECORD = 'stream'
/** Set when at the last alarm the session had lost its memory and no client had come back. */
const ABANDONED = 'abandoned'
/** The output gate need not wait for these writes: only a restarted session reads them. */
const UNCONFIRMED = { allowUnconfirmed: true }

/** All that a session stores, when a stream starts and when it moves to another node. It stores no tokens. */
interface StreamRecord {
  /** A principal's id. */
  readonly owner: string | undefined
  /** The call context, under the name that stored records have. */
  readonly origin?: CallContext | undefined
  readonly request: GenerateRequest
  readonly node: NodeAddress
  /** The reservation in the owner's limits, under the name that stored records have. */
  readonly lease: Reservation | undefined
}

/** The call that a stream belongs to. */
interface StreamCall {
  readonly principal: Principal | undefined
  readonly callContext: CallContext | undefined
  /** In the principal's limits; undefined: the session makes one itself. */
  readonly reservation?: Reservation | undefined
}

/**
 * One stream that can be resumed. Accepts the WebSocket of the client (or of the worker, for SSE) and relays between
 * it and a gpu node. The object's id is the stream's name. The stream's log is kept in memory only; when that is
 * lost, it is read again from the gpu node.
 */
export class StreamSession extends DurableObject<Env> {
  #relay: StreamRelay | undefined
  #owner: string | undefined
  #reservation: Reservation | undefined
  #stored = false

  /** Opens a WebSocket: for a new stream, or with `after` in the query to resume one. */
  override async fetch(request: Request): Promise<Response> {
    const query = new URL(request.url).searchParams
    const { principal, callContext, reservation, socketSlot } = readSessionHeaders(request)
    const after = query.get('after')
    const { 0: client, 1: server } = new WebSocketPair()
    const relay =
      after === null ? this.#start({ principal, callContext, reservation }) : await this.#resume(principal)
    // Not hibernatable: the socket to the node keeps this object in memory anyway, and accepted sockets close at once.
    server.accept()
    if (socketSlot) keepSlot(this.env, socketSlot, server)
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

  /** For clients without a WebSocket. false: the principal has no such stream. */
  async cancel(principal: Principal): Promise<boolean> {
    const relay = await this.#resume(principal)
    relay?.cancel()
    return relay !== undefined
  }

  /** Without this the record of a stream whose client never comes back would be stored for ever. */
  override async alarm(): Promise<void> {
    const { storage } = this.ctx
    // No session reads from the gpu node any more, so the node ends the stream by itself.
    if (!this.#relay && (await storage.get(ABANDONED))) return await storage.deleteAll()
    // The memory may have been lost a moment ago, and the client may be about to reconnect.
    if (!this.#relay) await storage.put(ABANDONED, true)
    await storage.setAlarm(Date.now() + CHECK_MS)
  }

  #start(call: StreamCall): StreamRelay {
    this.#owner = call.principal?.id
    this.#relay = this.#newRelay(call)
    return this.#relay
  }

  async #resume(principal: Principal | undefined): Promise<StreamRelay | undefined> {
    if (this.#relay) return this.#owner === principal?.id ? this.#relay : undefined
    const { storage } = this.ctx
    const record = await storage.get<StreamRecord>(RECORD)
    if (!record || record.owner !== principal?.id) return undefined
    // Another request may have created the relay meanwhile.
    if (this.#relay) return this.#relay
    const { origin: callContext, lease: reservation } = record
    const relay = this.#start({ principal, callContext, reservation })
    this.#stored = true
    void storage.delete(ABANDONED, UNCONFIRMED)
    relay.recover(record.request, record.node)
    return relay
  }

  #newRelay({ principal, callContext, reservation }: StreamCall): StreamRelay {
    const stream = this.ctx.id.toString()
    const { storage } = this.ctx
    return new StreamRelay({
      stream,
      callContext,
      nodes: nodesOf(this.env, (work) => this.ctx.waitUntil(work)),
      admit:
        principal &&
        (async (request) => {
          const admission = reservation
            ? Admission.adopt(this.env, principal, reservation, request)
            : await Admission.open(this.env, principal, [request])
          this.#reservation = admission.reservation
          return admission
        }),
      onNode: (request, node) => {
        this.#stored = true
        const record = { owner: principal?.id, origin: callContext, request, node, lease: this.#reservation }
        void storage.put<StreamRecord>(RECORD, record, UNCONFIRMED)
        void storage.setAlarm(Date.now() + CHECK_MS, UNCONFIRMED)
      },
      onClose: () => {
        this.#relay = undefined
        // In workerd the first use of the storage creates a file, even if nothing is stored.
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
