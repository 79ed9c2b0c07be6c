import { createMiddleware } from 'hono/factory'
import { AparError } from '../../shared/errors.ts'
import type { AppEnv } from '../app-env.ts'
import { bearerToken, equalSecrets } from '../keys/credentials.ts'

/** Lets the operator through, by the admin key; nobody while the edge has none. */
export const adminAuth = createMiddleware<AppEnv>(async (c, next) => {
  const expected = c.env.ADMIN_KEY
  const presented = bearerToken(c.req.header('authorization')) ?? ''
  const same = await equalSecrets(presented, expected ?? '')
  if (!expected || !same) throw new AparError('invalid_api_key', 'the admin key is not valid')
  await next()
})
