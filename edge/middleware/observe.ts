import type { Context } from 'hono'
import { createMiddleware } from 'hono/factory'
import { routePath } from 'hono/route'
import { traceIdOf } from '../../shared/protocol/node.ts'
import type { AppEnv } from '../app-env.ts'
import { logOf } from '../log.ts'

/** Refused requests since the last one that was recorded. */
let refused = 0
let lastRefusedAt = 0
const REFUSED_MS = 1_000

/**
 * One log line per response (level info), and a data point where Analytics Engine is bound (`METRICS`). A streamed
 * response is recorded when its headers are sent. Neither contains keys, prompts, texts or query strings. Of requests
 * without a good credential one a second is recorded, with the number of those before it, because anybody can send as
 * many as they like.
 */
export const observe = createMiddleware<AppEnv>(async (c, next) => {
  const started = Date.now()
  await next()
  const now = Date.now()
  let requests = 1
  if (isRefusal(c)) {
    refused++
    if (Math.abs(now - lastRefusedAt) < REFUSED_MS) return
    requests = refused
    lastRefusedAt = now
    refused = 0
  }
  const fields = describe(c, now - started)
  logOf(c.env).info('request', requests === 1 ? fields : { ...fields, requests })
  const { principal, method, route, status, duration_ms } = fields
  c.env.METRICS?.writeDataPoint({
    indexes: [principal],
    blobs: [method, route, String(status)],
    doubles: [duration_ms, requests],
  })
})

/** Refused because of the credential, or of too many such refusals. */
function isRefusal(c: Context<AppEnv>): boolean {
  return (c.res.status === 401 || c.res.status === 429) && !c.get('principal') && !c.get('rates')
}

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
