import type { ErrorHandler } from 'hono'
import { toAparError } from '../../shared/errors.ts'
import { isAnthropicCall, messagesError } from '../anthropic/errors.ts'
import type { AppEnv } from '../app-env.ts'
import { logIfForOperator } from '../log.ts'
import { BODY_ENCODINGS } from './body-encoding.ts'

/** One heartbeat: the fleet does not change sooner. */
const RETRY_UNAVAILABLE_SECONDS = 5

/**
 * OpenAI's clients obey Retry-After up to this time. With a longer one they would retry soon, so they get
 * `x-should-retry`.
 */
const LONGEST_RETRY_SECONDS = 60

/** Turns every thrown error into a response. An unexpected one is logged, and the client gets no details of it. */
export const handleError: ErrorHandler<AppEnv> = (thrown, c) => {
  const error = toAparError(thrown)
  logIfForOperator(c, error)
  const headers = new Headers({ 'content-type': 'application/json; charset=utf-8' })
  const retryAfter = error.retryAfterSeconds ?? (error.status === 503 ? RETRY_UNAVAILABLE_SECONDS : undefined)
  if (retryAfter !== undefined) headers.set('retry-after', String(retryAfter))
  if (error.status === 429 && (retryAfter ?? Number.POSITIVE_INFINITY) > LONGEST_RETRY_SECONDS) {
    headers.set('x-should-retry', 'false')
  }
  if (error.status === 401) headers.set('www-authenticate', 'Bearer')
  // RFC 9110, 15.5.16: what a body may have instead.
  if (error.status === 415) headers.set('accept-encoding', BODY_ENCODINGS.join(', '))
  if (error.status === 426) headers.set('upgrade', 'websocket')
  const version = c.req.header('anthropic-version')
  const anthropic = isAnthropicCall({ path: c.req.path, version })
  const body = anthropic ? messagesError(error, c.get('requestId')) : error.toBody()
  return new Response(JSON.stringify(body), { status: error.status, headers })
}
