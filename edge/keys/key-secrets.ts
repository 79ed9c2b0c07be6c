import type { ApiKeyRecord } from '../../shared/api-keys.ts'
import { base64Url, type CredentialMac, MAC_CHARS } from './credential-mac.ts'
import { fromHex, sha256, toHex } from './credentials.ts'
import { keyPrincipalId } from './principal.ts'

const RANDOM_BYTES = 24
const RANDOM_CHARS = 32

/** The fields of a record that its secrets are checked against. */
export type Hashes = Pick<ApiKeyRecord, 'salt' | 'hash' | 'previous'>

/** Compared for an unknown key id, so that it takes the same time as a wrong secret. */
const NO_KEY: Hashes = { salt: 'nobody', hash: '0'.repeat(64), previous: null }

export function newSalt(): string {
  return toHex(crypto.getRandomValues(new Uint8Array(16)))
}

/** A secret of 192 random bits and their MAC, and the hash to store. */
export async function newSecret(
  mac: CredentialMac,
  { id, salt }: Pick<ApiKeyRecord, 'id' | 'salt'>,
): Promise<{ secret: string; hash: string }> {
  const random = base64Url(crypto.getRandomValues(new Uint8Array(RANDOM_BYTES)))
  const secret = random + (await mac.make('key', keyPrincipalId(id), random))
  return { secret, hash: toHex(new Uint8Array(await sha256(salt + secret))) }
}

/** Whether `secret` was made for this key, and ends with its MAC. It may have been replaced or revoked since. */
export async function hasMac(mac: CredentialMac, keyId: string, secret: string): Promise<boolean> {
  if (secret.length !== RANDOM_CHARS + MAC_CHARS) return false
  return mac.check('key', keyPrincipalId(keyId), secret.slice(0, -MAC_CHARS), secret.slice(-MAC_CHARS))
}

/**
 * Whether `secret` is the record's, or one that a rotation has replaced and that is still in its grace time. Takes the
 * same time in every case, also without a record. `now` in seconds.
 */
export async function isSecretOf(record: Hashes | undefined, secret: string, now: number): Promise<boolean> {
  const { salt, hash, previous } = record ?? NO_KEY
  const given = await sha256(salt + secret)
  const valid = [hash, ...inGrace(previous, now).map((old) => old.hash)]
  const matches = valid.filter((each) => crypto.subtle.timingSafeEqual(given, fromHex(each)))
  return record !== undefined && matches.length > 0
}

/** The previous secrets that are still in their grace time. `now` in seconds. */
export function inGrace(previous: ApiKeyRecord['previous'], now: number) {
  return (previous ?? []).filter(({ expires_at }) => expires_at > now)
}
