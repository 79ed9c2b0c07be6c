import { createMiddleware } from 'hono/factory'
import { AparError } from '../../shared/errors.ts'
import type { AppEnv } from '../app-env.ts'
import { bearerToken, equalSecrets } from '../keys/credentials.ts'

/** Requires the secret that gpu nodes share with the edge. While none is configured, every call is refused. */
export const nodeAuth = createMiddleware<AppEnv>(async (c, next) => {
  const secret = c.env.NODE_SECRET
  const given = bearerToken(c.req.header('authorization')) ?? ''
  const same = await equalSecrets(given, secret ?? '')
  if (!secret || !same) throw new AparError('invalid_node_secret', 'the node secret is not valid')
  await next()
})
