import { createHash, randomBytes } from 'node:crypto'
import { ApiKeyRecord } from '../shared/api-keys.ts'

export interface NewKey {
  /** What its holder presents; shown once, kept nowhere. */
  key: string
  /** What goes into the edge's API_KEYS. */
  record: ApiKeyRecord
}

/** A key with 192 random bits. `id`: letters, digits and hyphens, at most 64. */
export function newApiKey(id: string, requestsPerMinute: number): NewKey {
  const secret = randomBytes(24).toString('base64url')
  const salt = randomBytes(16).toString('hex')
  const hash = createHash('sha256')
    .update(salt + secret)
    .digest('hex')
  const limits = { requests_per_minute: requestsPerMinute }
  return { key: `apar_${id}_${secret}`, record: ApiKeyRecord.parse({ id, salt, hash, limits }) }
}

/** The secret that edge and gpu nodes share. */
export function newNodeSecret(): string {
  return randomBytes(32).toString('base64url')
}
