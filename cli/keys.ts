import { createHash, randomBytes } from 'node:crypto'
import { ApiKeyRecord } from '../shared/api-keys.ts'

export interface NewKey {
  /** The full key with its secret; shown once, stored nowhere. */
  key: string
  /** The entry for the edge's API_KEYS. */
  record: ApiKeyRecord
}

/** Creates a key with a random secret of 192 bits. `id`: letters, digits and hyphens, at most 64. */
export function newApiKey(id: string, requestsPerMinute: number): NewKey {
  return apiKeyOf(id, randomBytes(24).toString('base64url'), requestsPerMinute)
}

/** The key with this secret. */
export function apiKeyOf(id: string, secret: string, requestsPerMinute: number): NewKey {
  const salt = randomBytes(16).toString('hex')
  const hash = createHash('sha256')
    .update(salt + secret)
    .digest('hex')
  const limits = { requests_per_minute: requestsPerMinute }
  return { key: `apar_${id}_${secret}`, record: ApiKeyRecord.parse({ id, salt, hash, limits }) }
}

/** Creates the secret that edge and gpu nodes share. */
export function newNodeSecret(): string {
  return randomBytes(32).toString('base64url')
}
