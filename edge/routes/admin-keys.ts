import type { Context } from 'hono'
import { z } from 'zod'
import {
  type ApiKeyInfo,
  ApiKeyRecord,
  ChangeKeyRequest,
  CreateKeyRequest,
  MAX_PREVIOUS,
  RotateKeyRequest,
} from '../../shared/api-keys.ts'
import { AparError } from '../../shared/errors.ts'
import { parse, parseJson } from '../../shared/parse.ts'
import type { AppEnv } from '../app-env.ts'
import { macOf } from '../keys/key-check.ts'
import { limitsOf } from '../keys/key-limits.ts'
import { newSalt, newSecret } from '../keys/key-secrets.ts'
import type { ChangeResult } from '../keys/key-store.ts'
import { keyStoreOf } from '../keys/key-store.ts'
import { keyPrincipalId } from '../keys/principal.ts'
import { DayRange, usageBody } from '../keys/usage.ts'
import { bodyText } from '../middleware/request-body.ts'

const KeyPath = z.object({ id: ApiKeyRecord.shape.id })
const Page = z.object({
  after: z.string().max(64).default(''),
  limit: z.coerce.number().int().min(1).max(1000).default(100),
})

/** Only the responses of this and of a rotation contain the key itself. */
export async function createKey(c: Context<AppEnv>): Promise<Response> {
  const { id = randomId(), ...settings } = await body(c, CreateKeyRequest)
  const salt = newSalt()
  const { secret, hash } = await newSecret(await macOf(c.env), { id, salt })
  const record = { ...settings, id, salt, hash, previous: null, created_at: now(), revoked_at: null }
  if (!(await keyStoreOf(c.env).create(record, true))) {
    throw new AparError('key_exists', `there is or was a key ${id}`, { param: 'id' })
  }
  return c.json({ ...infoOf(record), key: `apar_${id}_${secret}` }, 201)
}

export async function listKeys(c: Context<AppEnv>): Promise<Response> {
  const { after, limit } = parse(Page, c.req.query())
  const records = await keyStoreOf(c.env).list(after, limit + 1)
  const data = records.slice(0, limit).map(infoOf)
  return c.json({ object: 'list', data, has_more: records.length > limit })
}

export async function getKey(c: Context<AppEnv>): Promise<Response> {
  return c.json(infoOf(await existing(c)))
}

export async function changeKey(c: Context<AppEnv>): Promise<Response> {
  const { id } = parse(KeyPath, c.req.param())
  const change = await body(c, ChangeKeyRequest)
  return c.json(infoOf(changed(id, await keyStoreOf(c.env).change(id, given(change)))))
}

/** A new secret for the same key: limits, usage and id stay. Without a grace time all older secrets end at once. */
export async function rotateKey(c: Context<AppEnv>): Promise<Response> {
  const { id, salt } = await existing(c)
  const { grace_seconds } = await body(c, RotateKeyRequest)
  const { secret, hash } = await newSecret(await macOf(c.env), { id, salt })
  const record = changed(id, await keyStoreOf(c.env).rotate(id, hash, grace_seconds, true))
  return c.json({ ...infoOf(record), key: `apar_${id}_${secret}` })
}

/** From now on the key is refused. Its record is kept, so that its id is not used again. */
export async function revokeKey(c: Context<AppEnv>): Promise<Response> {
  const { id } = parse(KeyPath, c.req.param())
  return c.json(infoOf(changed(id, await keyStoreOf(c.env).change(id, { revoked_at: now() }))))
}

export async function getKeyUsage(c: Context<AppEnv>): Promise<Response> {
  const { first, last } = parse(DayRange, c.req.query())
  const { id, limits } = await existing(c)
  const usage = await limitsOf(c.env, keyPrincipalId(id)).usage(limits, first, last)
  return c.json(usageBody(limits, usage))
}

async function existing(c: Context<AppEnv>): Promise<ApiKeyRecord> {
  const { id } = parse(KeyPath, c.req.param())
  const record = await keyStoreOf(c.env).get(id)
  if (!record) throw unknownKey(id)
  return record
}

function changed(id: string, outcome: ChangeResult): ApiKeyRecord {
  if (outcome === 'unknown') throw unknownKey(id)
  if (outcome === 'revoked') throw new AparError('invalid_request', `key ${id} was revoked`)
  if (outcome === 'configured') {
    throw new AparError('invalid_request', `key ${id} comes from the API_KEYS secret: change it there`)
  }
  if (outcome === 'in_grace') {
    const message = `${MAX_PREVIOUS} older secrets of key ${id} are in their grace time: rotate without one to end them`
    throw new AparError('invalid_request', message, { param: 'grace_seconds' })
  }
  return outcome
}

function unknownKey(id: string): AparError {
  return new AparError('not_found', `there is no key ${id}`)
}

/** An empty body is `{}`. */
async function body<T>(c: Context<AppEnv>, schema: z.ZodType<T>): Promise<T> {
  const text = await bodyText(c)
  return parseJson(schema, text === '' ? '{}' : text)
}

function infoOf({ salt: _, hash: __, previous: ___, ...info }: ApiKeyRecord): ApiKeyInfo {
  // Records from before these fields were known have none.
  const { weight = 1, priority = 0, unknown_fields = 'refuse' } = info
  return { ...info, weight, priority, unknown_fields }
}

/** Without absent fields: as undefined they would overwrite the stored values. */
function given<T extends object>(change: T): Partial<{ [K in keyof T]: Exclude<T[K], undefined> }> {
  const entries = Object.entries(change).filter(([, value]) => value !== undefined)
  return Object.fromEntries(entries) as Partial<{ [K in keyof T]: Exclude<T[K], undefined> }>
}

function randomId(): string {
  return crypto.randomUUID().slice(0, 13)
}

function now(): number {
  return Math.floor(Date.now() / 1000)
}
