import type { Context } from 'hono'
import { AparError } from '../shared/errors.ts'
import { type LogFields, Logger, logLevel } from '../shared/log.ts'
import type { AppEnv } from './app-env.ts'
import type { Env } from './env.ts'

/** To the console, which is the platform's log: JSON, from `LOG_LEVEL` (default warn) on. */
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

/** What its client is only told as `internal_error`. */
export function logIfBug(c: Context<AppEnv>, error: AparError): void {
  if (error.code !== 'internal_error') return
  logOf(c.env).error('a bug ended a request', { request_id: c.get('requestId') }, error.cause ?? error)
}

/**
 * Of something that lasts longer than a request. A gpu node that went away, or a peer that broke the protocol, is worth a
 * warning, an exception more.
 */
export function logTrouble(env: Env, fields: LogFields, why: unknown): void {
  const log = logOf(env)
  const foreseen = why instanceof AparError && why.code !== 'internal_error'
  if (foreseen) log.warn('trouble with a stream', { ...fields, code: why.code }, why.message)
  else if (why instanceof Error) log.error('trouble with a stream', fields, why)
  else log.warn('trouble with a stream', fields, why)
}
