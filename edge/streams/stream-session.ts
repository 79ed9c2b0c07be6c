import { DurableObject } from 'cloudflare:workers'
import { AparError } from '../../shared/errors.ts'
import { CLOSE_NORMAL } from '../../shared/protocol/close-codes.ts'
import { errorEvent } from '../../shared/protocol/events.ts'
import type { CallContext } from '../../shared/protocol/node.ts'
import type { Env } from '../env.ts'
import { Admission, type Reservation } from '../keys/admission.ts'
import type { Principal } from '../keys/principal.ts'
import { keepSlot } from '../keys/socket-slot.ts'
import { tenantOf } from '../keys/tenant.ts'
import { logTrouble } from '../log.ts'
import { nodesOf } from '../nodes/fleet-nodes.ts'
import { readSessionHeaders } from './session-headers.ts'
import { RENEW_MS, recordsOf, type StreamRecord } from './stream-records.ts'
import { StreamRelay } from './stream-relay.ts'

/** The record in the session's own storage, where version 0.1 has put it. Goes with `alarm` in version 0.3. */
const OWN_RECORD = 'stream'

/** The call that a stream belongs to. */
interface StreamCall {
  readonly principal: Principal | undefined
  readonly callContext: CallContext | undefined
  /** In the principal's limits; undefined: the session makes one itself. */
  readonly reservation?: Reservation | undefined
  /** As of `nodesOf`; a session that has lost its memory does without. */
  readonly affinity?: string | undefined
}

/**
 * One stream that can be resumed. Accepts the WebSocket of the client (or of the worker, for SSE) and relays between
 * it and a gpu node. The object's id is the stream's name. The stream's log is kept in memory only; when that is
 * lost, it is read again from the gpu node. What is stored of a stream, StreamRecords has.
 */
export class StreamSession extends DurableObject<Env> {
  #relay: StreamRelay | undefined
  #owner: string | undefined
  #reservation: Reservation | undefined
  /** Renews the stream's record; null when there is none. */
  #renewal: ReturnType<typeof setInterval> | null = null
  /** The last write to the record has ended: each waits for the one before, since calls may overtake each other. */
  #written = Promise.resolve()

  /** Opens a WebSocket: for a new stream, or with `after` in the query to resume one. */
  override async fetch(request: Request): Promise<Response> {
    const query = new URL(request.url).searchParams
    const { principal, callContext, reservation, affinity, socketSlot } = readSessionHeaders(request)
    const after = query.get('after')
    const { 0: client, 1: server } = new WebSocketPair()
    const relay =
      after === null
        ? this.#start({ principal, callContext, reservation, affinity })
        : await this.#resume(principal)
    // Not hibernatable: the socket to the node keeps this object in memory anyway, and accepted sockets close at once.
    server.accept()
    if (socketSlot) keepSlot(this.env, socketSlot, server)
    if (relay) {
      relay.connect(server, {
        after: Number(after ?? -1),
        acks: query.get('flow') === 'ack',
        relayed: query.has('relayed'),
        rows: query.has('rows'),
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

  /** Set by version 0.1, which stored the record here. */
  override async alarm(): Promise<void> {
    const { storage } = this.ctx
    const record = await storage.get<StreamRecord>(OWN_RECORD)
    if (record && !this.#relay) await this.#records.put(this.#stream, record)
    await storage.deleteAll()
  }

  #start(call: StreamCall): StreamRelay {
    this.#owner = call.principal?.id
    this.#relay = this.#newRelay(call)
    return this.#relay
  }

  async #resume(principal: Principal | undefined): Promise<StreamRelay | undefined> {
    if (this.#relay) return this.#owner === principal?.id ? this.#relay : undefined
    const record =
      (await this.#records.get(this.#stream)) ?? (await this.ctx.storage.get<StreamRecord>(OWN_RECORD))
    if (!record || record.owner !== principal?.id) return undefined
    // Another request may have created the relay meanwhile.
    if (this.#relay) return this.#relay
    const { origin: callContext, lease: reservation } = record
    const relay = this.#start({ principal, callContext, reservation })
    this.#store(record)
    relay.recover(record.request, record.node)
    return relay
  }

  get #stream(): string {
    return this.ctx.id.toString()
  }

  get #records(): ReturnType<typeof recordsOf> {
    return recordsOf(this.env, this.#stream)
  }

  /** Nothing waits for the record, and a stream goes on without it: only a session that lost its memory reads it. */
  #store(record: StreamRecord): void {
    this.#write((records) => records.put(this.#stream, record))
    this.#renewal ??= setInterval(() => this.#write((records) => records.renew(this.#stream)), RENEW_MS)
  }

  #forget(): void {
    if (this.#renewal === null) return
    clearInterval(this.#renewal)
    this.#renewal = null
    this.#write((records) => records.delete(this.#stream))
  }

  #write(change: (records: ReturnType<typeof recordsOf>) => Promise<void>): void {
    this.#written = this.#written
      .then(() => change(this.#records))
      .catch((why) => logTrouble(this.env, { stream: this.#stream }, why))
    this.ctx.waitUntil(this.#written)
  }

  #newRelay({ principal, callContext, reservation, affinity }: StreamCall): StreamRelay {
    const stream = this.#stream
    return new StreamRelay({
      stream,
      callContext,
      tenant: principal && tenantOf(principal),
      nodes: nodesOf(this.env, (work) => this.ctx.waitUntil(work), affinity),
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
        this.#store({ owner: principal?.id, origin: callContext, request, node, lease: this.#reservation })
      },
      onClose: () => {
        this.#relay = undefined
        this.#forget()
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
