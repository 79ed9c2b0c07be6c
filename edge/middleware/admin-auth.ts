import { createMiddleware } from 'hono/factory'
import type { AppEnv } from '../app-env.ts'
import { bearerToken, equalSecrets } from '../keys/credentials.ts'
import { refuseCredential } from '../keys/refuse-credential.ts'

/** Requires the operator's admin key. While none is configured, every call is refused. */
export const adminAuth = createMiddleware<AppEnv>(async (c, next) => {
  const expected = c.env.ADMIN_KEY
  const given = bearerToken(c.req.header('authorization')) ?? ''
  const same = await equalSecrets(given, expected ?? '')
  if (!expected || !same) return await refuseCredential(c, 'the admin key is not valid')
  await next()
})
