import { createMiddleware } from 'hono/factory'
import { AparError } from '../../shared/errors.ts'
import type { AppEnv } from '../app-env.ts'
import { handleError } from './errors.ts'

/**
 * Refuses a request that tells the length of its body in two ways, and closes its connection: a proxy in front of the
 * edge may have used the other one, and then the rest of the body is what it takes for the next request (RFC 9112, 6.1).
 */
export const refuseAmbiguousLength = createMiddleware<AppEnv>(async (c, next) => {
  const { headers } = c.req.raw
  if (!headers.has('content-length') || !headers.has('transfer-encoding')) return await next()
  const message = 'a request may have Content-Length or Transfer-Encoding, not both'
  const refusal = await handleError(new AparError('invalid_request', message), c)
  return closingAfter(refusal, await refusal.text())
})

/**
 * The runtime sends no `Connection: close` for a worker, but closes a connection on which an answer failed. So this one
 * is complete and then fails. `retryable` is how the runtime marks lost connections, which it does not log.
 */
function closingAfter({ status, headers }: Response, text: string): Response {
  const bytes = new TextEncoder().encode(text)
  const { readable, writable } = new FixedLengthStream(bytes.length)
  const writer = writable.getWriter()
  const lost = Object.assign(new Error('the connection is closed'), { retryable: true, remote: true })
  const written = writer.write(bytes).then(() => writer.abort(lost))
  written.catch(() => {})
  return new Response(readable, { status, headers })
}
