import type { Context } from 'hono'
import { createMiddleware } from 'hono/factory'
import { routePath } from 'hono/route'
import { traceIdOf } from '../../shared/protocol/node.ts'
import type { AppEnv } from '../app-env.ts'
import { logOf } from '../log.ts'

/**
 * One line of log per answer (level info), and a data point where Analytics Engine is bound (`METRICS`). A streamed
 * answer is told when its headers go out. Neither ever holds a key, a prompt, a text or a query.
 */
export const observe = createMiddleware<AppEnv>(async (c, next) => {
  const begun = Date.now()
  await next()
  const seen = describe(c, Date.now() - begun)
  logOf(c.env).info('request', seen)
  const { principal, method, route, status, duration_ms } = seen
  c.env.METRICS?.writeDataPoint({
    indexes: [principal],
    blobs: [method, route, String(status)],
    doubles: [duration_ms],
  })
})

function describe(c: Context<AppEnv>, duration_ms: number) {
  return {
    request_id: c.get('requestId'),
    trace_id: traceIdOf(c.get('callContext')),
    // The pattern, not the path: what is in a path may be anything.
    route: routePath(c, -1),
    method: c.req.method,
    status: c.res.status,
    principal: c.get('principal')?.id ?? '',
    duration_ms,
  }
}
