import type { EngineErrorCode } from './engine.ts'

const CODES: ReadonlySet<string> = new Set<EngineErrorCode>([
  'invalid_config',
  'invalid_weights',
  'invalid_request',
  'duplicate_request',
  'queue_full',
  'request_too_large',
  'out_of_memory',
  'unavailable',
  'closed',
  'internal',
])

/** An error of the engine, with the code set by native code. */
export class EngineError extends Error {
  override readonly name = 'EngineError'
  readonly code: EngineErrorCode

  constructor(code: EngineErrorCode, message: string, cause?: unknown) {
    super(message, { cause })
    this.code = code
  }
}

/** Converts anything thrown by native code to an EngineError. */
export function toEngineError(thrown: unknown): EngineError {
  if (thrown instanceof EngineError) return thrown
  const message = thrown instanceof Error ? thrown.message : String(thrown)
  const code = thrown instanceof Error && 'code' in thrown ? thrown.code : undefined
  return new EngineError(isEngineErrorCode(code) ? code : 'internal', message, thrown)
}

function isEngineErrorCode(code: unknown): code is EngineErrorCode {
  return typeof code === 'string' && CODES.has(code)
}
