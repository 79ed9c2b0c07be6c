import { createMiddleware } from 'hono/factory'
import { AparError } from '../../shared/errors.ts'
import type { AppEnv } from '../app-env.ts'
import { bearerToken, equalSecrets } from '../keys/credentials.ts'

/** Requires the operator's admin key. While none is configured, every call is refused. */
export const adminAuth = createMiddleware<AppEnv>(async (c, next) => {
  const expected = c.env.ADMIN_KEY
  const given = bearerToken(c.req.header('authorization')) ?? ''
  const same = await equalSecrets(given, expected ?? '')
  if (!expected || !same) throw new AparError('invalid_api_key', 'the admin key is not valid')
  await next()
})
