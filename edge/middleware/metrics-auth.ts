import { createMiddleware } from 'hono/factory'
import type { AppEnv } from '../app-env.ts'
import { bearerToken, equalSecrets } from '../keys/credentials.ts'
import { refuseCredential } from '../keys/refuse-credential.ts'

/**
 * Requires METRICS_SECRET, or the admin key where there is none: so that a Prometheus need not have the key that makes
 * keys. While neither is configured, every call is refused.
 */
export const metricsAuth = createMiddleware<AppEnv>(async (c, next) => {
  const expected = c.env.METRICS_SECRET || c.env.ADMIN_KEY
  const given = bearerToken(c.req.header('authorization')) ?? ''
  const same = await equalSecrets(given, expected ?? '')
  if (!expected || !same) return await refuseCredential(c, 'the metrics secret is not valid')
  await next()
})
