import { createMiddleware } from 'hono/factory'
import type { AppEnv } from '../env.ts'
import { traceContext } from '../trace-context.ts'

/** Gives every request an id, and every answer that id and the headers that hold for all of them. */
export const responseHeaders = createMiddleware<AppEnv>(async (c, next) => {
  const id = crypto.randomUUID()
  c.set('requestId', id)
  c.set('origin', { request_id: id, ...traceContext(c.req.raw.headers) })
  await next()
  // The answer to a WebSocket handshake is immutable and has no use for them.
  if (c.res.status === 101) return
  c.res.headers.set('x-request-id', id)
  c.res.headers.set('x-content-type-options', 'nosniff')
  c.res.headers.set('referrer-policy', 'no-referrer')
})
