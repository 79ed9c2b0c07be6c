export type StartupErrorCode =
  | 'broken_checkpoint'
  | 'unsupported_checkpoint'
  | 'invalid_option'
  | 'engine_missing'
  | 'engine_unavailable'
  | 'port_taken'
  | 'edge_refused'
  | 'foreign_folder'

/** Why a gpu node cannot start. The message is one line for the operator and may contain paths. */
export class StartupError extends Error {
  override readonly name = 'StartupError'
  readonly code: StartupErrorCode

  constructor(code: StartupErrorCode, message: string, cause?: unknown) {
    super(oneLine(message), { cause })
    this.code = code
  }
}

const MAX_CHARS = 2000

/** Names from a checkpoint's files become part of messages; they may contain anything, at any length. */
function oneLine(text: string): string {
  const line = text.slice(0, MAX_CHARS).replace(/[\p{Cc}\u2028\u2029]/gu, (character) => {
    return `\\u${(character.codePointAt(0) ?? 0).toString(16).padStart(4, '0')}`
  })
  return line.length > MAX_CHARS || text.length > MAX_CHARS ? `${line.slice(0, MAX_CHARS)}…` : line
}
