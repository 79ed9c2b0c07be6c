import type { ApiKeyRecord } from '../../shared/api-keys.ts'
import { sha256, toHex } from './credentials.ts'

type Hashes = Pick<ApiKeyRecord, 'salt' | 'hash' | 'previous'>

/** Stands in for a key that does not exist, so that an unknown id costs the same time as a wrong secret. */
const NOBODY: Hashes = { salt: 'nobody', hash: '0'.repeat(64), previous: null }

export function newSalt(): string {
  return toHex(crypto.getRandomValues(new Uint8Array(16)))
}

/** A secret of 192 random bits, and what may be kept of it. */
export async function newSecret(salt: string): Promise<{ secret: string; hash: string }> {
  const secret = btoa(String.fromCharCode(...crypto.getRandomValues(new Uint8Array(24))))
    .replaceAll('+', '-')
    .replaceAll('/', '_')
  return { secret, hash: toHex(new Uint8Array(await sha256(salt + secret))) }
}

/**
 * Whether `secret` is the record's, or one that a rotation has replaced, within its grace time. Takes the same time
 * whichever it is, and for no record. `now` in seconds.
 */
export async function isSecretOf(
  record: ApiKeyRecord | undefined,
  secret: string,
  now: number,
): Promise<boolean> {
  const { salt, hash, previous } = record ?? NOBODY
  const shown = await sha256(salt + secret)
  const good = [hash, ...stillGood(previous, now).map((old) => old.hash)]
  const matches = good.filter((each) => crypto.subtle.timingSafeEqual(shown, fromHex(each)))
  return record !== undefined && matches.length > 0
}

/** Those of `previous` that are within their grace time. `now` in seconds. */
export function stillGood(previous: ApiKeyRecord['previous'], now: number) {
  return (previous ?? []).filter(({ expires_at }) => expires_at > now)
}

function fromHex(hex: string): Uint8Array {
  return Uint8Array.from(hex.match(/../g) ?? [], (byte) => Number.parseInt(byte, 16))
}
