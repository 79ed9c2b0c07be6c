import type { Context } from 'hono'
import { AparError } from '../shared/errors.ts'
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

/** Logs the cause of an `internal_error`, which the client does not get. */
export function logIfBug(c: Context<AppEnv>, error: AparError): void {
  if (error.code !== 'internal_error') return
  logOf(c.env).error('a bug ended a request', { request_id: c.get('requestId') }, error.cause ?? error)
}

/**
 * Logs an error of a stream or a socket. Expected ones, such as a lost gpu node or a peer that breaks the protocol, are
 * warnings; any other exception is an error.
 */
export function logTrouble(env: Env, fields: LogFields, why: unknown): void {
  const log = logOf(env)
  const expected = why instanceof AparError && why.code !== 'internal_error'
  if (expected) log.warn('trouble with a stream', { ...fields, code: why.code }, why.message)
  else if (why instanceof Error) log.error('trouble with a stream', fields, why)
  else log.warn('trouble with a stream', fields, why)
}
