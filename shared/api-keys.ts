import { z } from 'zod'

/** An API key as a client sends it: `apar_<id>_<secret>`. */
export const API_KEY_PATTERN = /^apar_([A-Za-z0-9-]{1,64})_([A-Za-z0-9_-]{16,256})$/

/** What a key may be used for. */
export const Scope = z.enum(['generate', 'models', 'usage'])
export type Scope = z.infer<typeof Scope>

const tokens = z.int().min(1).max(1_000_000_000_000)

/** Limits of a key; an absent field means no limit, except for sockets. Tokens are prompt and completion tokens together. */
export const Limits = z.strictObject({
  requests_per_minute: z.int().min(1).max(1_000_000).optional(),
  tokens_per_minute: tokens.optional(),
  /** Answers that are generated at the same time. */
  concurrent_streams: z.int().min(1).max(100_000).optional(),
  /** Open WebSockets. Absent: 512, or `concurrent_streams` if that is more. */
  concurrent_sockets: z.int().min(1).max(100_000).optional(),
  /** Days and months begin at 00:00 UTC. */
  tokens_per_day: tokens.optional(),
  tokens_per_month: tokens.optional(),
  /** Of the Responses API, in storage at the same time. Absent: 1,000. */
  stored_responses: z.int().min(0).max(100_000).optional(),
})
export type Limits = z.infer<typeof Limits>

/** A key's share of a gpu node while others want it too: twice the weight is twice as many tokens. */
export const Weight = z.number().min(0.01).max(100)
/** Keys with a larger priority are served first; the others get what is left, and a little in any case. */
export const Priority = z.int().min(-4).max(4)

/** What becomes of fields of a request's body that the API does not know. Ignored ones are named in a response header. */
export const UnknownFields = z.enum(['refuse', 'ignore'])

/** What a client with this key may do. */
export const KeyPolicy = z.strictObject({
  scopes: z
    .array(Scope)
    .min(1)
    .default([...Scope.options]),
  /** null allows every model. */
  models: z.array(z.string().min(1).max(256)).max(64).nullable().default(null),
  limits: Limits.default({}),
  weight: Weight.default(1),
  priority: Priority.default(0),
  unknown_fields: UnknownFields.default('refuse'),
})
export type KeyPolicy = z.infer<typeof KeyPolicy>

/** All secrets of a key share one salt. */
const salt = z.string().min(1).max(256)
/** hex(sha256(salt + secret)). */
const hash = z.string().regex(/^[0-9a-f]{64}$/)
/** Unix time in seconds. */
const time = z.int().min(0).max(100_000_000_000)

/** Old secrets that may be in their grace time at once. */
export const MAX_PREVIOUS = 8

/** What the edge stores of a key: never the secret itself. */
export const ApiKeyRecord = KeyPolicy.extend({
  id: z.string().regex(/^[A-Za-z0-9-]{1,64}$/, 'must be letters, digits and hyphens, at most 64'),
  salt,
  hash,
  /** Secrets that rotations have replaced, each valid until its grace time ends. */
  previous: z
    .array(z.strictObject({ hash, expires_at: time }))
    .max(MAX_PREVIOUS)
    .nullable()
    .default(null),
  created_at: time.default(0),
  expires_at: time.nullable().default(null),
  revoked_at: time.nullable().default(null),
})
export type ApiKeyRecord = z.infer<typeof ApiKeyRecord>

/** The edge's `API_KEYS` secret, as JSON: keys from the configuration. */
export const ApiKeyRecords = z.array(ApiKeyRecord).max(1000)

/** A key as the admin API returns it. */
export type ApiKeyInfo = Omit<ApiKeyRecord, 'salt' | 'hash' | 'previous'>

/** Settings of a key that can be set when it is created, and changed later. */
export const ApiKeySettings = KeyPolicy.extend({ expires_at: ApiKeyRecord.shape.expires_at })
/** `POST /admin/v1/keys`. */
export const CreateKeyRequest = ApiKeySettings.extend({ id: ApiKeyRecord.shape.id.optional() })
export type CreateKeyRequest = z.infer<typeof CreateKeyRequest>
/** `PATCH /admin/v1/keys/:id`: absent fields stay unchanged. */
export const ChangeKeyRequest = z.strictObject({
  scopes: KeyPolicy.shape.scopes.unwrap().optional(),
  models: KeyPolicy.shape.models.unwrap().optional(),
  limits: Limits.optional(),
  weight: Weight.optional(),
  priority: Priority.optional(),
  unknown_fields: UnknownFields.optional(),
  expires_at: time.nullable().optional(),
})
export type ChangeKeyRequest = z.infer<typeof ChangeKeyRequest>
/** `POST /admin/v1/keys/:id/rotate`. */
export const RotateKeyRequest = z.strictObject({
  /** How long the old secret stays valid beside the new one. */
  grace_seconds: z
    .int()
    .min(0)
    .max(30 * 24 * 3600)
    .default(0),
})
