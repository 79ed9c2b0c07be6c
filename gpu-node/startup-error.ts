export type StartupErrorCode =
  | 'broken_checkpoint'
  | 'unsupported_checkpoint'
  | 'invalid_option'
  | 'engine_missing'
  | 'engine_unavailable'
  | 'port_taken'
  | 'edge_refused'

/** Why a gpu node cannot start. The message is one line for the operator and may contain paths. */
export class StartupError extends Error {
  override readonly name = 'StartupError'
  readonly code: StartupErrorCode

  constructor(code: StartupErrorCode, message: string, cause?: unknown) {
    super(message, { cause })
    this.code = code
  }
}
