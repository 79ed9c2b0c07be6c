import type { Context } from 'hono'
import { createMiddleware } from 'hono/factory'
import { API_KEY_PATTERN, type Scope } from '../../shared/api-keys.ts'
import { AparError } from '../../shared/errors.ts'
import { API_KEY_SUBPROTOCOL_PREFIX } from '../../shared/protocol/version.ts'
import type { AppEnv } from '../app-env.ts'
import { isUpgrade, offeredSubprotocols } from '../handshake.ts'
import { enter } from './authorize.ts'
import { setRateHeaders } from './budget/rates.ts'
import { bearerToken, type Presented } from './credentials.ts'
import { looksLikeJwt, verifyJwt } from './jwt.ts'
import { keyPrincipalId } from './principal.ts'
import { parseTicket } from './tickets.ts'

/**
 * Lets through whoever presents a key, a token or a ticket with `scope`, as long as there are requests left to take:
 * opening a stream is one request. Sets `principal` and `rates`.
 */
export function authenticate(scope: Scope) {
  return createMiddleware<AppEnv>(async (c, next) => {
    c.set('presented', await presented(c))
    await enter(c, scope)
    await next()
  })
}

/**
 * As {@link authenticate}, for calls that let their caller in themselves once they have read what is to be reserved.
 * What is wrong with a call that did not come so far, only those hear who may make it.
 */
export const authenticateGeneration = createMiddleware<AppEnv>(async (c, next) => {
  c.set('presented', await presented(c))
  await next()
  if (c.get('presented')) await enter(c, 'generate')
})

/** Tells what is left of the key's limits; stands before {@link authenticate}, so that a refusal tells it too. */
export const rateHeaders = createMiddleware<AppEnv>(async (c, next) => {
  await next()
  const rates = c.get('rates')
  // The answer to a WebSocket handshake is immutable and has no use for them.
  if (rates && c.res.status !== 101) setRateHeaders(c.res.headers, rates)
})

async function presented(c: Context<AppEnv>): Promise<Presented> {
  const text = presentedText(c)
  if (text === undefined) {
    const ticket = isUpgrade(c.req.raw) ? parseTicket(c.req.query('ticket')) : undefined
    if (ticket) return ticket
    throw new AparError('invalid_api_key', 'no API key: send it as "Authorization: Bearer <key>"')
  }
  const [, keyId, secret] = text.match(API_KEY_PATTERN) ?? []
  if (keyId !== undefined && secret !== undefined) {
    return { name: keyPrincipalId(keyId), credential: { keyId, secret } }
  }
  if (!looksLikeJwt(text)) throw new AparError('invalid_api_key', 'this API key is not valid')
  const principal = await verifyJwt(c.env, text)
  return { name: principal.id, credential: { principal } }
}

/** `x-api-key` is Anthropic's; a browser's WebSocket can set no headers and offers its key as a second subprotocol. */
function presentedText(c: Context<AppEnv>): string | undefined {
  return (
    bearerToken(c.req.header('authorization')) ?? c.req.header('x-api-key') ?? keyFromSubprotocol(c.req.raw)
  )
}

function keyFromSubprotocol(request: Request): string | undefined {
  const offered = offeredSubprotocols(request).find((name) => name.startsWith(API_KEY_SUBPROTOCOL_PREFIX))
  return offered?.slice(API_KEY_SUBPROTOCOL_PREFIX.length)
}
