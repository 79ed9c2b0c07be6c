import { z } from 'zod'

/** A key as people hold it: `apar_<id>_<secret>`. */
export const API_KEY_PATTERN = /^apar_([A-Za-z0-9-]{1,64})_([A-Za-z0-9_-]{16,256})$/

/** What the edge keeps of a key: never the secret. */
export const ApiKeyRecord = z.strictObject({
  id: z.string().regex(/^[A-Za-z0-9-]{1,64}$/),
  salt: z.string().min(1).max(256),
  /** hex(sha256(salt + secret)). */
  hash: z.string().regex(/^[0-9a-f]{64}$/),
  requests_per_minute: z.int().min(1).max(1_000_000),
})
export type ApiKeyRecord = z.infer<typeof ApiKeyRecord>

/** The edge's `API_KEYS` secret, as JSON. */
export const ApiKeyRecords = z.array(ApiKeyRecord).max(1000)
