import type { AparError } from '../shared/errors.ts'
import type { CallContext } from '../shared/protocol/node.ts'
import type { Env } from './env.ts'
import type { RateStatus } from './keys/budget/key-budget.ts'
import type { CallerCredential } from './keys/credentials.ts'
import type { Principal } from './keys/principal.ts'
import type { SocketSlot } from './keys/socket-slot.ts'

/** Hono's environment: the bindings, and the variables that middleware and handlers of one call share. */
export interface AppEnv {
  Bindings: Env
  Variables: {
    requestId: string
    callContext: CallContext
    /** Set until the call is authorized or refused. */
    callerCredential: CallerCredential | undefined
    principal: Principal
    /** Taken for the WebSocket that the call opens. */
    socketSlot: SocketSlot | undefined
    rates: RateStatus
    /** Requests of the same principal with the same one have the beginning of their prompts in common. */
    promptCacheKey: string | undefined
    /** The refusal of fields that are not known, for a key that may not send them. */
    unknownFields: AparError | undefined
    /** Paths of fields that have no effect on this answer. */
    ignoredFields: readonly string[] | undefined
  }
}
