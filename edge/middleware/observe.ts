import type { Context } from 'hono'
import { createMiddleware } from 'hono/factory'
import { routePath } from 'hono/route'
import { traceIdOf } from '../../shared/protocol/node.ts'
import type { AppEnv } from '../app-env.ts'
import { logOf } from '../log.ts'

/**
 * One log line per response (level info), and a data point where Analytics Engine is bound (`METRICS`). A streamed
 * response is recorded when its headers are sent. Neither contains keys, prompts, texts or query strings.
 */
export const observe = createMiddleware<AppEnv>(async (c, next) => {
  const started = Date.now()
  await next()
  const fields = describe(c, Date.now() - started)
  logOf(c.env).info('request', fields)
  const { principal, method, route, status, duration_ms } = fields
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
    // The pattern, not the path: a path can contain anything.
    route: routePath(c, -1),
    method: c.req.method,
    status: c.res.status,
    principal: c.get('principal')?.id ?? '',
    duration_ms,
  }
}
