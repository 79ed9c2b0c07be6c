import { createMiddleware } from 'hono/factory'
import { AparError } from '../../shared/errors.ts'
import type { AppEnv } from '../env.ts'
import { handleError } from './errors.ts'

/** Takes one request from the key's bucket; needs `apiKey`. Opening a stream is one request. */
export const rateLimit = createMiddleware<AppEnv>(async (c, next) => {
  const { id, requests_per_minute } = c.get('apiKey')
  const taken = await c.env.KEY_LIMITS.getByName(id).take(requests_per_minute)
  if (taken.allowed) {
    await next()
  } else {
    const retryAfterSeconds = Math.ceil(taken.retryAfterMs / 1000)
    const message = `this key may make ${requests_per_minute} requests per minute`
    c.res = await handleError(new AparError('rate_limit_exceeded', message, { retryAfterSeconds }), c)
  }
  if (c.res.status === 101) return
  c.res.headers.set('x-ratelimit-limit-requests', String(requests_per_minute))
  c.res.headers.set('x-ratelimit-remaining-requests', String(taken.remaining))
  c.res.headers.set('x-ratelimit-reset-requests', `${Math.ceil(taken.fullAfterMs / 1000)}s`)
})
