import type { Context } from 'hono'
import type { Scope } from '../../shared/api-keys.ts'
import type { GenerateRequest } from '../../shared/protocol/request.ts'
import type { AppEnv } from '../app-env.ts'
import { Admission, newReservation, reservationRequest } from './admission.ts'
import { limitError } from './budget/rates.ts'
import type { Authorization, ModelReservationRequest } from './key-limits.ts'
import { limitsOf } from './key-limits.ts'
import { type BadCredential, requireModel, requireScope } from './principal.ts'
import { refuseCredential } from './refuse-credential.ts'

const REASONS: Record<BadCredential, string> = {
  unknown: 'is not valid',
  expired: 'has expired',
  revoked: 'was revoked',
}

/**
 * Checks the caller's credential and takes one request from the rate limit. Sets `principal` and `rates`.
 * `wanted`: what to reserve in the same turn of the key's KeyLimits object, if the key may use the models.
 * @throws AparError `invalid_api_key`, `rate_limit_exceeded`, `insufficient_scope`
 */
export async function authorize(
  c: Context<AppEnv>,
  scope: Scope,
  wanted?: ModelReservationRequest,
): Promise<Authorization> {
  const caller = c.get('callerCredential')
  if (!caller) throw new Error('this call is authorized already')
  c.set('callerCredential', undefined)
  const { principalId, credential } = caller
  const authorization = await limitsOf(c.env, principalId).authorize(credential, wanted)
  if ('bad' in authorization) {
    const what = 'ticket' in credential ? 'ticket' : 'API key'
    return await refuseCredential(c, `this ${what} ${REASONS[authorization.bad]}`)
  }
  const { principal, rates, retryAfterMs } = authorization
  c.set('rates', rates)
  if (retryAfterMs > 0) throw limitError('requests', retryAfterMs)
  requireScope(principal, scope)
  c.set('principal', principal)
  return authorization
}

/**
 * {@link authorize} and an {@link Admission} for `requests`, with one call to the key's KeyLimits object.
 * @throws AparError as both.
 */
export async function authorizeAndReserve(
  c: Context<AppEnv>,
  requests: readonly GenerateRequest[],
): Promise<Admission> {
  const reservation = newReservation()
  const models = requests.map(({ model }) => model)
  const wanted = { models, request: reservationRequest(requests, reservation) }
  const { principal, result, rates } = await authorize(c, 'generate', wanted)
  for (const model of models) requireModel(principal, model)
  if (!result) throw new Error('the key may use the models, but nothing was reserved')
  return Admission.fromResult(c.env, principal, requests, reservation, result, rates)
}
