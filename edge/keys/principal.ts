import type { ApiKeyRecord, KeyPolicy, Scope } from '../../shared/api-keys.ts'
import { AparError } from '../../shared/errors.ts'

/** Who makes a request (the owner of an API key, or the subject of a token) and what it may do. */
export interface Principal
  extends Omit<KeyPolicy, 'weight' | 'priority' | 'unknown_fields'>,
    // Absent in what was stored before there were any.
    Partial<Pick<KeyPolicy, 'weight' | 'priority' | 'unknown_fields'>> {
  /** `key:<id>` or `jwt:<subject>`; also the name of its KeyLimits object. */
  readonly id: string
  /** Unix time in seconds at which a token expires. Unset for a key: its record says when it expires. */
  readonly expiresAt?: number | undefined
}

/** Why a credential was refused. */
export type BadCredential = 'unknown' | 'expired' | 'revoked'

const KEY_PREFIX = 'key:'
const JWT_PREFIX = 'jwt:'

/** The name of a key's KeyLimits object. */
export function keyPrincipalId(keyId: string): string {
  return KEY_PREFIX + keyId
}

export function jwtPrincipalId(subject: string): string {
  return JWT_PREFIX + subject
}

/** undefined when the principal is a token's subject. */
export function keyIdOf({ id }: Principal): string | undefined {
  return id.startsWith(KEY_PREFIX) ? id.slice(KEY_PREFIX.length) : undefined
}

export function principalOf(record: ApiKeyRecord): Principal {
  const { id, scopes, models, limits, weight, priority, unknown_fields } = record
  return { id: keyPrincipalId(id), scopes, models, limits, weight, priority, unknown_fields }
}

/** @throws AparError `insufficient_scope`. */
export function requireScope({ scopes }: Principal, scope: Scope): void {
  if (scopes.includes(scope)) return
  throw new AparError('insufficient_scope', `this key has no ${scope} scope, only ${scopes.join(' and ')}`)
}

/** @throws AparError `model_not_allowed`. */
export function requireModel(principal: Principal, model: string): void {
  if (mayUse(principal, model)) return
  throw new AparError('model_not_allowed', `this key may not use ${JSON.stringify(model)}`, {
    param: 'model',
  })
}

export function mayRun(
  principal: Principal,
  { models, unknownFields }: { readonly models: readonly string[]; readonly unknownFields?: boolean },
): boolean {
  if (unknownFields && principal.unknown_fields !== 'ignore') return false
  return principal.scopes.includes('generate') && models.every((model) => mayUse(principal, model))
}

export function mayUse({ models }: Principal, model: string): boolean {
  return models === null || models.includes(model)
}
