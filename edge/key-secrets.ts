import type { ApiKeyRecord } from '../shared/api-keys.ts'
import { sha256, toHex } from './credentials.ts'

type Hashed = Pick<ApiKeyRecord, 'salt' | 'hash'>

/** Stands in for a key that does not exist, so that an unknown id costs the same time as a wrong secret. */
const NOBODY: Hashed = { salt: 'nobody', hash: '0'.repeat(64) }

/** A secret of 192 random bits, and what may be kept of it. */
export async function newSecret(): Promise<{ secret: string; hashed: Hashed }> {
  const secret = btoa(String.fromCharCode(...crypto.getRandomValues(new Uint8Array(24))))
    .replaceAll('+', '-')
    .replaceAll('/', '_')
  const salt = toHex(crypto.getRandomValues(new Uint8Array(16)))
  return { secret, hashed: { salt, hash: toHex(new Uint8Array(await sha256(salt + secret))) } }
}

/**
 * Whether `secret` is the record's, or its last one within the grace time of a rotation. Takes the same time whichever
 * it is, and for no record. `now` in seconds.
 */
export async function isSecretOf(
  record: ApiKeyRecord | undefined,
  secret: string,
  now: number,
): Promise<boolean> {
  const previous = record?.previous
  const [current, old] = await Promise.all([
    matches(record ?? NOBODY, secret),
    matches(previous ?? NOBODY, secret),
  ])
  return record !== undefined && (current || (old && (previous?.expires_at ?? 0) > now))
}

async function matches({ salt, hash }: Hashed, secret: string): Promise<boolean> {
  return crypto.subtle.timingSafeEqual(await sha256(salt + secret), fromHex(hash))
}

function fromHex(hex: string): Uint8Array {
  return Uint8Array.from(hex.match(/../g) ?? [], (byte) => Number.parseInt(byte, 16))
}
