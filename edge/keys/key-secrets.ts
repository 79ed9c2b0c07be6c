import type { ApiKeyRecord } from '../../shared/api-keys.ts'
import { sha256, toHex } from './credentials.ts'

type Hashes = Pick<ApiKeyRecord, 'salt' | 'hash' | 'previous'>

/** Compared for an unknown key id, so that it takes the same time as a wrong secret. */
const NO_KEY: Hashes = { salt: 'nobody', hash: '0'.repeat(64), previous: null }

export function newSalt(): string {
  return toHex(crypto.getRandomValues(new Uint8Array(16)))
}

/** A secret of 192 random bits, and the hash to store. */
export async function newSecret(salt: string): Promise<{ secret: string; hash: string }> {
  const secret = btoa(String.fromCharCode(...crypto.getRandomValues(new Uint8Array(24))))
    .replaceAll('+', '-')
    .replaceAll('/', '_')
  return { secret, hash: toHex(new Uint8Array(await sha256(salt + secret))) }
}

/**
 * Whether `secret` is the record's, or one that a rotation has replaced and that is still in its grace time. Takes the
 * same time in every case, also without a record. `now` in seconds.
 */
export async function isSecretOf(
  record: ApiKeyRecord | undefined,
  secret: string,
  now: number,
): Promise<boolean> {
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

function fromHex(hex: string): Uint8Array {
  return Uint8Array.from(hex.match(/../g) ?? [], (byte) => Number.parseInt(byte, 16))
}
