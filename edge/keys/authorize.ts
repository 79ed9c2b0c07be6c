import { waitUntil } from 'cloudflare:workers'
import type { Context } from 'hono'
import type { Scope } from '../../shared/api-keys.ts'
import { AparError } from '../../shared/errors.ts'
import type { GenerateRequest } from '../../shared/protocol/request.ts'
import type { AppEnv } from '../app-env.ts'
import { clientAddress } from '../client-address.ts'
import { addressSocketsOf } from './address-sockets.ts'
import { Admission, newReservation, reservationRequest } from './admission.ts'
import { limitError } from './budget/rates.ts'
import type { Authorization, ModelReservationRequest } from './key-limits.ts'
import { limitsOf } from './key-limits.ts'
import { type BadCredential, requireModel, requireScope } from './principal.ts'
import { refuseCredential } from './refuse-credential.ts'
import { releaseSlot, type SocketSlot } from './socket-slot.ts'

/** It is unknown when a socket will close. */
const RETRY_SOON_SECONDS = 1

const REASONS: Record<BadCredential, string> = {
  unknown: 'is not valid',
  expired: 'has expired',
  revoked: 'was revoked',
}

/**
 * Checks the caller's credential and takes one request from the rate limit. Sets `principal` and `rates`.
 * `wanted`: what to reserve in the same turn of the key's KeyLimits object, if the key may use the models. `socket`: the
 * id of the socket to count there.
 * @throws AparError `invalid_api_key`, `rate_limit_exceeded`, `insufficient_scope`, `too_many_streams`
 */
export async function authorize(
  c: Context<AppEnv>,
  scope: Scope,
  wanted?: ModelReservationRequest,
  socket?: string,
): Promise<Authorization> {
  const caller = c.get('callerCredential')
  if (!caller) throw new Error('this call is authorized already')
  c.set('callerCredential', undefined)
  const { principalId, credential } = caller
  const authorization = await limitsOf(c.env, principalId).authorize(credential, wanted, socket)
  if ('bad' in authorization) {
    const what = 'ticket' in credential ? 'ticket' : 'API key'
    return await refuseCredential(c, `this ${what} ${REASONS[authorization.bad]}`)
  }
  const { principal, rates, retryAfterMs } = authorization
  c.set('rates', rates)
  if (retryAfterMs > 0) throw limitError('requests', retryAfterMs)
  requireScope(principal, scope)
  const unknown = c.get('unknownFields')
  if (unknown && principal.unknown_fields !== 'ignore') throw unknown
  if (authorization.socketRefused) throw tooManySockets('this key')
  c.set('principal', principal)
  return authorization
}

/** {@link authorize} unless an earlier step of the call had to know its key. */
export async function authorizeOnce(c: Context<AppEnv>, scope: Scope): Promise<void> {
  if (c.get('callerCredential')) await authorize(c, scope)
}

/**
 * {@link authorize} for a handshake, and a slot for its socket. Asks the key's and the address's object at the same time.
 * @throws AparError as `authorize`; then nothing is taken.
 */
export async function authorizeSocket(c: Context<AppEnv>): Promise<SocketSlot> {
  const principalId = c.get('callerCredential')?.principalId ?? ''
  const slot: SocketSlot = { id: crypto.randomUUID(), principalId, address: clientAddress(c) }
  const taking = takeAtAddress(c, slot)
  try {
    await authorize(c, 'generate', undefined, slot.id)
    if (!(await taking)) throw tooManySockets('this address')
    return slot
  } catch (error) {
    // Not before it was taken.
    waitUntil(taking.then(() => releaseSlot(c.env, slot)))
    throw error
  }
}

async function takeAtAddress({ env }: Context<AppEnv>, { id, address }: SocketSlot): Promise<boolean> {
  if (address === undefined) return true
  try {
    return await addressSocketsOf(env, address).takeSocket(id)
  } catch {
    // The key's limit holds without it.
    return true
  }
}

function tooManySockets(whose: string): AparError {
  const message = `${whose} has as many open WebSockets as it may have`
  return new AparError('too_many_streams', message, { retryAfterSeconds: RETRY_SOON_SECONDS })
}

/**
 * {@link authorize} and an {@link Admission} for `requests`, with one call to the key's KeyLimits object. Only the
 * admission for a call that was authorized before, to read what its key has stored.
 * @throws AparError as both.
 */
export async function authorizeAndReserve(
  c: Context<AppEnv>,
  requests: readonly GenerateRequest[],
): Promise<Admission> {
  if (!c.get('callerCredential')) {
    const admission = await Admission.open(c.env, c.get('principal'), requests)
    c.set('rates', { ...c.get('rates'), ...admission.rates })
    return admission
  }
  const reservation = newReservation()
  const models = requests.map(({ model }) => model)
  const unknownFields = c.get('unknownFields') !== undefined
  const wanted = { models, request: reservationRequest(requests, reservation), unknownFields }
  const { principal, result, rates } = await authorize(c, 'generate', wanted)
  for (const model of models) requireModel(principal, model)
  if (!result) throw new Error('the key may use the models, but nothing was reserved')
  return Admission.fromResult(c.env, principal, requests, reservation, result, rates)
}
