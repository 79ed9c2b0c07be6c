import type { Context } from 'hono'
import { AparError, type ErrorCode, toAparError } from '../shared/errors.ts'
import { type LogFields, Logger, logLevel } from '../shared/log.ts'
import type { AppEnv } from './app-env.ts'
import type { Env } from './env.ts'

/** Writes JSON lines from `LOG_LEVEL` (default warn) on to the console, which is the platform's log. */
export function logOf(env: Pick<Env, 'LOG_LEVEL'>): Logger {
  return new Logger({
    level: logLevel(env.LOG_LEVEL, 'warn'),
    write: (line, level) => {
      if (level === 'error') console.error(line)
      else if (level === 'warn') console.warn(line)
      else console.log(line)
    },
  })
}

/** What went wrong when an error is nothing that the client could mend; the client does not get its cause. */
const OPERATORS: Partial<Record<ErrorCode, string>> = {
  internal_error: 'a bug ended a request',
  storage_unavailable: 'storing or reading the state may have failed',
}

/** The error's cause has to be logged, because only the operator can mend it. */
export function isForOperator(error: AparError): boolean {
  return error.code in OPERATORS
}

export function logIfForOperator(c: Context<AppEnv>, error: AparError): void {
  const what = OPERATORS[error.code]
  if (what) logOf(c.env).error(what, { request_id: c.get('requestId') }, error.cause ?? error)
}

/**
 * Logs an error of a stream or a socket. Expected ones, such as a lost gpu node or a peer that breaks the protocol, are
 * warnings; any other exception is an error.
 */
export function logTrouble(env: Env, fields: LogFields, thrown: unknown): void {
  const error = thrown instanceof Error ? toAparError(thrown) : undefined
  const why = error?.code === 'storage_unavailable' ? error : thrown
  const log = logOf(env)
  const expected = why instanceof AparError && why.code !== 'internal_error'
  if (expected) log.warn('trouble with a stream', { ...fields, code: why.code }, why.message)
  else if (why instanceof Error) log.error('trouble with a stream', fields, why)
  else log.warn('trouble with a stream', fields, why)
}
