import type { CallContext } from '../../shared/protocol/node.ts'
import type { Reservation } from '../keys/admission.ts'
import type { Principal } from '../keys/principal.ts'
import type { SocketSlot } from '../keys/socket-slot.ts'

/** What the worker sends to a Durable Object about a call, in the headers of the WebSocket handshake. */
export interface SessionHeaders {
  readonly principal?: Principal | undefined
  readonly callContext?: CallContext | undefined
  /** In the principal's limits, if the worker has already made it. */
  readonly reservation?: Reservation | undefined
  /** Of a new stream: hexadecimal, or a UUID. */
  readonly affinity?: string | undefined
  /** Of the client's socket; undefined when the socket is the worker's. */
  readonly socketSlot?: SocketSlot | undefined
}

// These names do not change: during an upgrade a worker and an object may run different versions.
const PRINCIPAL = 'apar-principal'
const CALL_CONTEXT = 'apar-origin'
const RESERVATION = 'apar-lease'
const AFFINITY = 'apar-affinity'
const SOCKET_SLOT = 'apar-socket-slot'

export function sessionHeaders({
  principal,
  callContext,
  reservation,
  affinity,
  socketSlot,
}: SessionHeaders): Record<string, string> {
  return {
    // A token's subject may have characters that are not allowed in a header.
    ...(principal && { [PRINCIPAL]: encodeURIComponent(JSON.stringify(principal)) }),
    ...(callContext && { [CALL_CONTEXT]: JSON.stringify(callContext) }),
    ...(reservation && { [RESERVATION]: JSON.stringify(reservation) }),
    ...(affinity && { [AFFINITY]: affinity }),
    ...(socketSlot && { [SOCKET_SLOT]: encodeURIComponent(JSON.stringify(socketSlot)) }),
  }
}

export function readSessionHeaders({ headers }: Request): SessionHeaders {
  const principal = headers.get(PRINCIPAL)
  const callContext = headers.get(CALL_CONTEXT)
  const reservation = headers.get(RESERVATION)
  const socketSlot = headers.get(SOCKET_SLOT)
  return {
    principal: principal === null ? undefined : JSON.parse(decodeURIComponent(principal)),
    callContext: callContext === null ? undefined : JSON.parse(callContext),
    reservation: reservation === null ? undefined : JSON.parse(reservation),
    affinity: headers.get(AFFINITY) ?? undefined,
    socketSlot: socketSlot === null ? undefined : JSON.parse(decodeURIComponent(socketSlot)),
  }
}
