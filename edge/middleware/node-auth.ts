import { createMiddleware } from 'hono/factory'
import { AparError } from '../../shared/errors.ts'
import type { AppEnv } from '../app-env.ts'
import { bearerToken, equalSecrets } from '../keys/credentials.ts'

/** Lets gpu nodes through, by the secret they share with the edge; nobody while the edge has none. */
export const nodeAuth = createMiddleware<AppEnv>(async (c, next) => {
  const secret = c.env.NODE_SECRET
  const presented = bearerToken(c.req.header('authorization')) ?? ''
  const same = await equalSecrets(presented, secret ?? '')
  if (!secret || !same) throw new AparError('invalid_node_secret', 'the node secret is not valid')
  await next()
})
