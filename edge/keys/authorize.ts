import type { Context } from 'hono'
import type { Scope } from '../../shared/api-keys.ts'
import { AparError } from '../../shared/errors.ts'
import type { GenerateRequest } from '../../shared/protocol/request.ts'
import type { AppEnv } from '../app-env.ts'
import { Admission, askFor, newLease } from './admission.ts'
import { limitError } from './budget/rates.ts'
import type { Entered, Wanted } from './key-limits.ts'
import { limitsOf } from './key-limits.ts'
import { type BadCredential, requireModel, requireScope } from './principal.ts'

const REASONS: Record<BadCredential, string> = {
  unknown: 'is not valid',
  expired: 'has expired',
  revoked: 'was revoked',
}

/**
 * Lets in who has presented themselves, as one request. Sets `principal` and `rates`.
 * `wanted`: what to reserve in the same turn of the key's object, as far as the key may run it at all.
 * @throws AparError `invalid_api_key`, `rate_limit_exceeded`, `insufficient_scope`
 */
export async function enter(
  c: Context<AppEnv>,
  scope: Scope,
  wanted?: Wanted,
): Promise<Exclude<Entered, { bad: unknown }>> {
  const presented = c.get('presented')
  if (!presented) throw new Error('this caller was let in before')
  c.set('presented', undefined)
  const { name, credential } = presented
  const entered = await limitsOf(c.env, name).enter(credential, wanted)
  if ('bad' in entered) {
    const what = 'ticket' in credential ? 'ticket' : 'API key'
    throw new AparError('invalid_api_key', `this ${what} ${REASONS[entered.bad]}`)
  }
  c.set('rates', entered.rates)
  if (entered.retryAfterMs > 0) throw limitError('requests', entered.retryAfterMs)
  requireScope(entered.principal, scope)
  c.set('principal', entered.principal)
  return entered
}

/** {@link enter} with an {@link Admission} for `requests`: one way to the key's object, not two. @throws as both. */
export async function enterAndAdmit(
  c: Context<AppEnv>,
  requests: readonly GenerateRequest[],
): Promise<Admission> {
  const lease = newLease()
  const models = requests.map(({ model }) => model)
  const entered = await enter(c, 'generate', { models, ask: askFor(requests, lease) })
  for (const model of models) requireModel(entered.principal, model)
  if (!entered.reserved) throw new Error('what a key may run was not reserved')
  return Admission.reserved(c.env, entered.principal, requests, lease, entered.reserved, entered.rates)
}
