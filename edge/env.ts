/**
 * The bindings of the worker. Namespaces are untyped here, because the classes of the Durable Objects import this file:
 * callers get typed stubs from `fleetOf`, `keyStoreOf`, `limitsOf` and others, which stand beside their classes.
 */
export interface Env {
  STREAM_SESSION: DurableObjectNamespace
  STREAM_RECORDS: DurableObjectNamespace
  SHARED_SOCKET: DurableObjectNamespace
  DIALLED_IN_NODE: DurableObjectNamespace
  FLEET: DurableObjectNamespace
  KEY_LIMITS: DurableObjectNamespace
  KEY_STORE: DurableObjectNamespace
  ADDRESS_SOCKETS: DurableObjectNamespace
  FEEDBACK: DurableObjectNamespace
  RESPONSES: DurableObjectNamespace
  /** Limits refused requests per client IP address. */
  IP_RATE_LIMIT?: RateLimit
  /**
   * The header with the client's IP address, set by what is in front of the edge. Default: Cloudflare's,
   * `cf-connecting-ip`. Empty: nothing in front of the edge sets one.
   */
  CLIENT_ADDRESS_HEADER?: string
  /** Open WebSockets of one client address; default 2,000. */
  MAX_SOCKETS_PER_ADDRESS?: string
  /** For how many days the votes of users are kept; default 90. 0: none are taken. */
  FEEDBACK_DAYS?: string
  /** For how many days responses are stored after their last use; default 30. 0: none are. */
  RESPONSE_DAYS?: string
  /** Analytics Engine, if the account has it. */
  METRICS?: AnalyticsEngineDataset
  /** The lowest level that is logged: debug, info (a line per request), warn (default), error or silent. */
  LOG_LEVEL?: string
  /** JSON of `ApiKeyRecord[]`: keys that are not in the KeyStore. */
  API_KEYS?: string
  /** The key for `/admin/v1`, which is closed without it. */
  ADMIN_KEY?: string
  /** Bearer token for `/metrics`. Default: the admin key. */
  METRICS_SECRET?: string
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
  /** Allowed hosts of gpu nodes, separated by commas; `*.example.com` allows all subdomains. Default: this machine. */
  NODE_HOSTS?: string
  /** Shared by the edge and its gpu nodes, in both directions. */
  NODE_SECRET?: string
}
