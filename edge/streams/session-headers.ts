import type { CallContext } from '../../shared/protocol/node.ts'
import type { Lease } from '../keys/admission.ts'
import type { Principal } from '../keys/principal.ts'

/** What the worker tells a Durable Object about a call, in the headers of the WebSocket's handshake. */
export interface SessionHeaders {
  /** Who asks. */
  readonly principal?: Principal | undefined
  readonly callContext?: CallContext | undefined
  /** The reservation that the stream has already in the principal's limits. */
  readonly lease?: Lease | undefined
}

const PRINCIPAL = 'apar-principal'
const CALL_CONTEXT = 'apar-call-context'
const RESERVATION = 'apar-reservation'

export function sessionHeaders({ principal, callContext, lease }: SessionHeaders): Record<string, string> {
  return {
    // A token's subject may have any characters, a header may not.
    ...(principal && { [PRINCIPAL]: encodeURIComponent(JSON.stringify(principal)) }),
    ...(callContext && { [CALL_CONTEXT]: JSON.stringify(callContext) }),
    ...(lease && { [RESERVATION]: JSON.stringify(lease) }),
  }
}

export function readSessionHeaders({ headers }: Request): SessionHeaders {
  const principal = headers.get(PRINCIPAL)
  const callContext = headers.get(CALL_CONTEXT)
  const lease = headers.get(RESERVATION)
  return {
    principal: principal === null ? undefined : JSON.parse(decodeURIComponent(principal)),
    callContext: callContext === null ? undefined : JSON.parse(callContext),
    lease: lease === null ? undefined : JSON.parse(lease),
  }
}
