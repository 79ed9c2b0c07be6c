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
  exposeHeaders: [
    'x-request-id',
    'request-id',
    'x-apar-ignored-fields',
    'retry-after',
    'x-should-retry',
    ...EXPOSED,
  ],
  maxAge: 7200,
})

/**
 * Lets pages of `ALLOWED_ORIGINS` read responses. CORS does not apply to WebSockets, so there the edge itself refuses
 * other origins.
 */
export const allowOrigins = createMiddleware<AppEnv>(async (c, next) => {
  const origin = c.req.header('origin')?.trim()
  // Without an Origin header it is not a cross-origin call of a browser.
  if (origin === undefined) return await next()
  if (!isUpgrade(c.req.raw)) return await answerCors(c, next)
  if (!isAllowed(c, origin)) {
    throw new AparError('origin_not_allowed', `pages of ${origin} may not open a stream here`)
  }
  return await next()
})

function isAllowed(c: Context<AppEnv>, origin: string): boolean {
  const allowed = (c.env.ALLOWED_ORIGINS ?? '').split(',').map((entry) => entry.trim())
  return origin === ownOrigin(c) || allowed.includes(origin) || allowed.includes('*')
}

/** undefined when the client's Host header makes no URL. */
function ownOrigin(c: Context<AppEnv>): string | undefined {
  return URL.canParse(c.req.url) ? new URL(c.req.url).origin : undefined
}
