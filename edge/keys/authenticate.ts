/**
 * Authentication and authorization, in the order in which a call uses the files:
 * 1. authenticate.ts reads the credential of the request (credentials.ts, jwt.ts, tickets.ts), and refuses one that
 *    this edge has not made (key-check.ts, docs/adr/0024); refusals count for the caller's address (refuse-credential.ts).
 * 2. authorize.ts sends it to the KeyLimits object of its key. A call that generates makes one round trip
 *    (docs/adr/0023).
 * 3. key-limits.ts checks the credential against the key's record (key-store.ts), and returns the principal
 *    (principal.ts). In the same turn it takes one request and reserves tokens and stream slots (budget/).
 * 4. admission.ts renews the reservation while the streams run, and settles it at their end.
 */
import { waitUntil } from 'cloudflare:workers'
import type { Context } from 'hono'
import { createMiddleware } from 'hono/factory'
import { API_KEY_PATTERN, type Scope } from '../../shared/api-keys.ts'
import { AparError } from '../../shared/errors.ts'
import { API_KEY_SUBPROTOCOL_PREFIX } from '../../shared/protocol/version.ts'
import type { AppEnv } from '../app-env.ts'
import { isUpgrade, offeredSubprotocols } from '../handshake.ts'
import { authorize, authorizeSocket } from './authorize.ts'
import { setRateHeaders } from './budget/rates.ts'
import { bearerToken, type CallerCredential } from './credentials.ts'
import { looksLikeJwt, verifyJwt } from './jwt.ts'
import { keyCheckOf, macOf } from './key-check.ts'
import { keyPrincipalId } from './principal.ts'
import { refuseCredential } from './refuse-credential.ts'
import { releaseSlot } from './socket-slot.ts'
import { parseTicket } from './tickets.ts'

/**
 * Requires a key, a token or a ticket with `scope`, and takes one request from its rate limit (opening a stream is one
 * request). Sets `principal` and `rates`.
 */
export function authenticate(scope: Scope) {
  return createMiddleware<AppEnv>(async (c, next) => {
    c.set('callerCredential', await readCredential(c))
    await authorize(c, scope)
    await next()
  })
}

/** As {@link authenticate} for generation. A WebSocket also takes a slot of its key and address: `socketSlot`. */
export const authenticateSocket = createMiddleware<AppEnv>(async (c, next) => {
  c.set('callerCredential', await readCredential(c))
  if (isUpgrade(c.req.raw)) c.set('socketSlot', await authorizeSocket(c))
  else await authorize(c, 'generate')
  await next()
  const slot = c.get('socketSlot')
  if (slot && c.res.status !== 101) waitUntil(releaseSlot(c.env, slot))
})

/**
 * As {@link authenticate}, for handlers that call `authorize` themselves once they know what to reserve. A handler that
 * refuses its body has not done so yet: then the caller is authorized here, before that error is sent, so that a caller
 * without a valid key gets 401, 403 or 429 and learns nothing about the body.
 */
export const authenticateGeneration = createMiddleware<AppEnv>(async (c, next) => {
  c.set('callerCredential', await readCredential(c))
  await next()
  if (c.get('callerCredential')) await authorize(c, 'generate')
})

/** Adds the headers about the key's rate limits. Runs before {@link authenticate}, so that a refusal has them too. */
export const rateHeaders = createMiddleware<AppEnv>(async (c, next) => {
  await next()
  const rates = c.get('rates')
  // The answer to a WebSocket handshake is immutable and has no use for them.
  if (rates && c.res.status !== 101) setRateHeaders(c.res.headers, rates)
})

/** Reads the credential and checks it without a Durable Object. @throws AparError as {@link refuseCredential}. */
async function readCredential(c: Context<AppEnv>): Promise<CallerCredential> {
  const text = credentialText(c)
  if (text === undefined) {
    const ticket = isUpgrade(c.req.raw) ? c.req.query('ticket') : undefined
    if (ticket === undefined) {
      return await refuseCredential(c, 'no API key: send it as "Authorization: Bearer <key>"')
    }
    const credential = await parseTicket(await macOf(c.env), ticket)
    return credential ?? (await refuseCredential(c, 'this ticket is not valid'))
  }
  const [, keyId, secret] = text.match(API_KEY_PATTERN) ?? []
  if (keyId !== undefined && secret !== undefined) {
    const check = await keyCheckOf(c.env)
    if (check && !(await check.knows(c.env, keyId, secret))) return await refuseCredential(c)
    return { principalId: keyPrincipalId(keyId), credential: { keyId, secret } }
  }
  if (!looksLikeJwt(text)) return await refuseCredential(c)
  const principal = await verifyJwt(c.env, text).catch((thrown) => {
    if (thrown instanceof AparError && thrown.code === 'invalid_api_key')
      return refuseCredential(c, thrown.message)
    throw thrown
  })
  return { principalId: principal.id, credential: { principal } }
}

/**
 * `x-api-key` is Anthropic's, `api-key` Azure's; a browser's WebSocket can set no headers and offers its key as a second
 * subprotocol.
 */
function credentialText(c: Context<AppEnv>): string | undefined {
  // An empty header is none: clients send it when they have no key to put into it.
  const apiKey = c.req.header('x-api-key')?.trim() || c.req.header('api-key')?.trim() || undefined
  return bearerToken(c.req.header('authorization')) ?? apiKey ?? keyFromSubprotocol(c.req.raw)
}

function keyFromSubprotocol(request: Request): string | undefined {
  const offered = offeredSubprotocols(request).find((name) => name.startsWith(API_KEY_SUBPROTOCOL_PREFIX))
  return offered?.slice(API_KEY_SUBPROTOCOL_PREFIX.length)
}
