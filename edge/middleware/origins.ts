import type { Context } from 'hono'
import { cors } from 'hono/cors'
import { createMiddleware } from 'hono/factory'
import { AparError } from '../../shared/errors.ts'
import type { AppEnv } from '../app-env.ts'
import { isUpgrade } from '../handshake.ts'

const EXPOSED = ['requests', 'tokens'].flatMap((name) =>
  ['limit', 'remaining', 'reset'].map((what) => `x-ratelimit-${what}-${name}`),
)

const answerCors = cors({
  origin: (origin, c) => (isAllowed(c, origin) ? origin : null),
  allowMethods: ['GET', 'POST', 'DELETE', 'OPTIONS'],
  exposeHeaders: ['x-request-id', 'retry-after', 'x-should-retry', ...EXPOSED],
  maxAge: 7200,
})

/**
 * Pages of `ALLOWED_ORIGINS` may read answers. CORS does not hold for WebSockets, so there the edge itself refuses a
 * page from elsewhere.
 */
export const allowOrigins = createMiddleware<AppEnv>(async (c, next) => {
  const origin = c.req.header('origin')
  // Not a browser's, or its own page's: nobody asks.
  if (origin === undefined) return await next()
  if (!isUpgrade(c.req.raw)) return await answerCors(c, next)
  if (!isAllowed(c, origin)) {
    throw new AparError('origin_not_allowed', `pages of ${origin} may not open a stream here`)
  }
  return await next()
})

function isAllowed(c: Context<AppEnv>, origin: string): boolean {
  const allowed = (c.env.ALLOWED_ORIGINS ?? '').split(',').map((entry) => entry.trim())
  return origin === new URL(c.req.url).origin || allowed.includes(origin) || allowed.includes('*')
}
