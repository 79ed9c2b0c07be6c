/**
 * Every error code that crosses a boundary of apar, with the HTTP status it maps to and the `type` that OpenAI
 * clients know. A code is part of the public interface: add, never rename.
 */
export const ERROR_CODES = {
  invalid_request: { status: 400, type: 'invalid_request_error' },
  invalid_json: { status: 400, type: 'invalid_request_error' },
  context_length_exceeded: { status: 400, type: 'invalid_request_error' },
  invalid_api_key: { status: 401, type: 'authentication_error' },
  invalid_node_secret: { status: 401, type: 'authentication_error' },
  insufficient_scope: { status: 403, type: 'permission_error' },
  model_not_allowed: { status: 403, type: 'permission_error' },
  origin_not_allowed: { status: 403, type: 'permission_error' },
  node_host_not_allowed: { status: 403, type: 'permission_error' },
  not_found: { status: 404, type: 'invalid_request_error' },
  model_not_found: { status: 404, type: 'invalid_request_error' },
  response_not_found: { status: 404, type: 'invalid_request_error' },
  previous_response_not_found: { status: 400, type: 'invalid_request_error' },
  stream_not_found: { status: 404, type: 'invalid_request_error' },
  method_not_allowed: { status: 405, type: 'invalid_request_error' },
  request_timeout: { status: 408, type: 'invalid_request_error' },
  stream_replaced: { status: 409, type: 'invalid_request_error' },
  key_exists: { status: 409, type: 'invalid_request_error' },
  body_too_large: { status: 413, type: 'invalid_request_error' },
  unsupported_encoding: { status: 415, type: 'invalid_request_error' },
  upgrade_required: { status: 426, type: 'invalid_request_error' },
  connection_closed: { status: 499, type: 'invalid_request_error' },
  rate_limit_exceeded: { status: 429, type: 'rate_limit_error' },
  socket_full: { status: 429, type: 'rate_limit_error' },
  too_many_streams: { status: 429, type: 'rate_limit_error' },
  insufficient_quota: { status: 429, type: 'insufficient_quota' },
  internal_error: { status: 500, type: 'server_error' },
  engine_error: { status: 500, type: 'server_error' },
  gpu_node_lost: { status: 502, type: 'server_error' },
  model_changed: { status: 502, type: 'server_error' },
  no_gpu_node: { status: 503, type: 'server_error' },
  overloaded: { status: 503, type: 'server_error' },
  node_suspended: { status: 503, type: 'server_error' },
  storage_unavailable: { status: 503, type: 'server_error' },
} as const

export type ErrorCode = keyof typeof ERROR_CODES

export interface AparErrorOptions {
  /** Path of the offending field (`messages.0.role`), when there is one. */
  param?: string | undefined
  /** Seconds after which a retry makes sense; becomes `Retry-After`. */
  retryAfterSeconds?: number | undefined
  cause?: unknown
}

/** An error that is safe to show to a client: its message contains no path, stack trace or secret. */
export class AparError extends Error {
  override readonly name = 'AparError'
  readonly code: ErrorCode
  readonly param: string | undefined
  readonly retryAfterSeconds: number | undefined

  constructor(code: ErrorCode, message: string, options: AparErrorOptions = {}) {
    super(message, { cause: options.cause })
    this.code = code
    this.param = options.param
    this.retryAfterSeconds = options.retryAfterSeconds
  }

  get status(): number {
    return ERROR_CODES[this.code].status
  }

  /** The body that OpenAI clients parse: `{error: {message, type, param, code}}`. */
  toBody(): ErrorBody {
    const { type } = ERROR_CODES[this.code]
    return { error: { message: this.message, type, param: this.param ?? null, code: this.code } }
  }
}

export interface ErrorBody {
  error: { message: string; type: string; param: string | null; code: ErrorCode }
}

/** Converts anything thrown to an error that is safe to show; an unknown error becomes `internal_error`. */
export function toAparError(thrown: unknown): AparError {
  if (thrown instanceof AparError) return thrown
  if (isStorageFailure(thrown)) {
    const message = 'the service may be unable to store or read its state at the moment, try again later'
    return new AparError('storage_unavailable', message, { cause: thrown })
  }
  return new AparError('internal_error', 'internal error', { cause: thrown })
}

/**
 * The storage of a Durable Object cannot be written or read, for example because the disk is full: SQLite says so, or
 * the runtime, which could not even create the object, says no more than a reference to its log. Other faults of the
 * runtime read the same, so what is said of them is "may be".
 */
function isStorageFailure(thrown: unknown): boolean {
  const message = thrown instanceof Error ? thrown.message : ''
  return /\bSQLITE_(FULL|IOERR|CANTOPEN|READONLY)\b|^internal error; reference = /.test(message)
}
