/**
 * The bindings of the worker. Namespaces have no type here: each Durable Object is reached by the function beside its class,
 * which has one.
 */
export interface Env {
  STREAM_SESSION: DurableObjectNamespace
  SHARED_SOCKET: DurableObjectNamespace
  DIALLED_IN_NODE: DurableObjectNamespace
  FLEET: DurableObjectNamespace
  KEY_LIMITS: DurableObjectNamespace
  KEY_STORE: DurableObjectNamespace
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
  /** `expected_wait` (default), `lottery` or `prefix_affinity` (edge/nodes/routing.ts). */
  ROUTING_POLICY?: string
  /** Hosts at which gpu nodes may be, separated by commas; `*.example.com` is every host below. Default: this machine. */
  NODE_HOSTS?: string
  /** Shared by the edge and its gpu nodes, in both directions. */
  NODE_SECRET?: string
}
