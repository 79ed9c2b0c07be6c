import { createMiddleware } from 'hono/factory'
import { AparError } from '../../shared/errors.ts'
import type { AppEnv } from '../app-env.ts'

/** The period of the IP_RATE_LIMIT binding in wrangler.toml. */
const PERIOD_SECONDS = 10

/**
 * The platform's rate limit per client IP address. It is not exact, but needs no Durable Object, so a flood of wrong
 * keys does not reach one.
 */
export const ipRateLimit = createMiddleware<AppEnv>(async (c, next) => {
  const key = c.req.header('cf-connecting-ip') ?? 'unknown'
  const { success } = (await c.env.IP_RATE_LIMIT?.limit({ key })) ?? { success: true }
  if (!success) {
    const message = 'too many requests from this address'
    throw new AparError('rate_limit_exceeded', message, { retryAfterSeconds: PERIOD_SECONDS })
  }
  await next()
})
