import type { Origin } from '../shared/protocol/node.ts'
import type { DialledInNode } from './durable/dialled-in-node.ts'
import type { Fleet } from './durable/fleet.ts'
import type { RateStatus } from './durable/key-budget.ts'
import type { KeyLimits } from './durable/key-limits.ts'
import type { KeyStore } from './durable/key-store.ts'
import type { SharedSocket } from './durable/shared-socket.ts'
import type { StreamSession } from './durable/stream-session.ts'
import type { Presented } from './entry.ts'
import type { Principal } from './principal.ts'

export interface Env {
  STREAM_SESSION: DurableObjectNamespace<StreamSession>
  SHARED_SOCKET: DurableObjectNamespace<SharedSocket>
  DIALLED_IN_NODE: DurableObjectNamespace<DialledInNode>
  FLEET: DurableObjectNamespace<Fleet>
  KEY_LIMITS: DurableObjectNamespace<KeyLimits>
  KEY_STORE: DurableObjectNamespace<KeyStore>
  /** A coarse limit per client address, before anything else is looked at. */
  SHIELD?: RateLimit
  /** Analytics Engine, where the account has it. */
  METRICS?: AnalyticsEngineDataset
  /** The least that is logged: debug, info (a line per request), warn (default), error or silent. */
  LOG_LEVEL?: string
  /** JSON of `ApiKeyRecord[]`: keys that need no KeyStore. */
  API_KEYS?: string
  /** Opens `/admin/v1`; closed without it. */
  ADMIN_KEY?: string
  /** Origins whose pages may call the API, separated by commas; `*` is every origin. */
  ALLOWED_ORIGINS?: string
  /** For tokens signed with a shared secret (HS256). */
  JWT_SECRET?: string
  /** For tokens signed with a key of this set. */
  JWT_JWKS_URL?: string
  JWT_ISSUER?: string
  JWT_AUDIENCE?: string
  /** JSON of `Limits`, for each subject of a token. */
  JWT_LIMITS?: string
  /** `expected_wait` (default), `lottery` or `prefix_affinity` (edge/durable/routing.ts). */
  ROUTING_POLICY?: string
  /** Hosts at which gpu nodes may be, separated by commas; `*.example.com` is every host below. Default: this machine. */
  NODE_HOSTS?: string
  /** Shared by the edge and its gpu nodes, in both directions. */
  NODE_SECRET?: string
}

export interface AppEnv {
  Bindings: Env
  Variables: {
    requestId: string
    origin: Origin
    /** Until its bearer is let in, or not. */
    presented: Presented | undefined
    principal: Principal
    rates: RateStatus
  }
}

/** The one Fleet object. */
export function fleetOf(env: Env): DurableObjectStub<Fleet> {
  return env.FLEET.getByName('fleet')
}

/** The object that has the socket of a gpu node that dials in. */
export function dialledInNodeOf(env: Env, id: string): DurableObjectStub<DialledInNode> {
  return env.DIALLED_IN_NODE.getByName(id)
}

/** The one KeyStore object. */
export function keyStoreOf(env: Env): DurableObjectStub<KeyStore> {
  return env.KEY_STORE.getByName('keys')
}

/** The object that keeps a principal's limits. */
export function limitsOf(env: Env, principalId: string): DurableObjectStub<KeyLimits> {
  return env.KEY_LIMITS.getByName(principalId)
}
