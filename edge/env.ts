import type { ApiKeyRecord } from '../shared/api-keys.ts'
import type { Fleet } from './durable/fleet.ts'
import type { KeyLimits } from './durable/key-limits.ts'
import type { StreamSession } from './durable/stream-session.ts'

export interface Env {
  STREAM_SESSION: DurableObjectNamespace<StreamSession>
  FLEET: DurableObjectNamespace<Fleet>
  KEY_LIMITS: DurableObjectNamespace<KeyLimits>
  /** JSON of `ApiKeyRecord[]`. */
  API_KEYS?: string
  /** Shared by the edge and its gpu nodes, in both directions. */
  NODE_SECRET?: string
}

export interface AppEnv {
  Bindings: Env
  Variables: { requestId: string; apiKey: ApiKeyRecord }
}

/** The one Fleet object. */
export function fleetOf(env: Env): DurableObjectStub<Fleet> {
  return env.FLEET.getByName('fleet')
}
