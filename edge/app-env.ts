import type { CallContext } from '../shared/protocol/node.ts'
import type { Env } from './env.ts'
import type { RateStatus } from './keys/budget/key-budget.ts'
import type { Presented } from './keys/credentials.ts'
import type { Principal } from './keys/principal.ts'

/** What Hono's handlers and middleware share: the bindings, and what is known of the call so far. */
export interface AppEnv {
  Bindings: Env
  Variables: {
    requestId: string
    callContext: CallContext
    /** Until its bearer is let in, or not. */
    presented: Presented | undefined
    principal: Principal
    rates: RateStatus
  }
}
