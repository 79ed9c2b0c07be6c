import { createMiddleware } from 'hono/factory'
import { AparError } from '../../shared/errors.ts'
import type { AppEnv } from '../app-env.ts'

/** The period of the binding in wrangler.toml. */
const PERIOD_SECONDS = 10

/**
 * The platform's own limit per client address: not exact, but it costs no Durable Object, so that who floods the edge
 * with wrong keys wakes none.
 */
export const shield = createMiddleware<AppEnv>(async (c, next) => {
  const key = c.req.header('cf-connecting-ip') ?? 'unknown'
  const { success } = (await c.env.SHIELD?.limit({ key })) ?? { success: true }
  if (!success) {
    const message = 'too many requests from this address'
    throw new AparError('rate_limit_exceeded', message, { retryAfterSeconds: PERIOD_SECONDS })
  }
  await next()
})
