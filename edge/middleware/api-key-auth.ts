import { createMiddleware } from 'hono/factory'
import { AparError } from '../../shared/errors.ts'
import { API_KEY_SUBPROTOCOL_PREFIX } from '../../shared/protocol/version.ts'
import { findApiKey } from '../api-keys.ts'
import { bearerToken } from '../credentials.ts'
import type { AppEnv } from '../env.ts'
import { offeredSubprotocols } from '../subprotocols.ts'

/** Lets through who presents a known key; sets `apiKey`. */
export const apiKeyAuth = createMiddleware<AppEnv>(async (c, next) => {
  const presented = bearerToken(c.req.header('authorization')) ?? keyFromSubprotocol(c.req.raw)
  if (presented === undefined) {
    throw new AparError('invalid_api_key', 'no API key: send it as "Authorization: Bearer <key>"')
  }
  const key = await findApiKey(c.env.API_KEYS ?? '[]', presented)
  if (!key) throw new AparError('invalid_api_key', 'this API key is not valid')
  c.set('apiKey', key)
  await next()
})

/** A browser's WebSocket can set no headers; it offers its key as a second subprotocol. */
function keyFromSubprotocol(request: Request): string | undefined {
  const offered = offeredSubprotocols(request).find((name) => name.startsWith(API_KEY_SUBPROTOCOL_PREFIX))
  return offered?.slice(API_KEY_SUBPROTOCOL_PREFIX.length)
}
