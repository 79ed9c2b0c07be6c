import { API_KEY_PATTERN, type ApiKeyRecord, ApiKeyRecords } from '../shared/api-keys.ts'
import { parseJson } from '../shared/parse.ts'
import { sha256 } from './credentials.ts'

/** Stands in for a key that does not exist, so that an unknown id costs the same time as a wrong secret. */
const NOBODY: Omit<ApiKeyRecord, 'id' | 'requests_per_minute'> = { salt: 'nobody', hash: '0'.repeat(64) }

let parsed: { json: string; keys: Map<string, ApiKeyRecord> } | undefined

/** The record of the key that was presented, if its secret is right. `json` is the `API_KEYS` secret. */
export async function findApiKey(json: string, presented: string): Promise<ApiKeyRecord | undefined> {
  const [, id = '', secret = ''] = presented.match(API_KEY_PATTERN) ?? []
  const record = records(json).get(id)
  const { salt, hash } = record ?? NOBODY
  const same = crypto.subtle.timingSafeEqual(await sha256(salt + secret), fromHex(hash))
  return same ? record : undefined
}

function records(json: string): Map<string, ApiKeyRecord> {
  if (parsed?.json !== json) {
    const keys = parseConfig(json)
    parsed = { json, keys: new Map(keys.map((key) => [key.id, key])) }
  }
  return parsed.keys
}

function parseConfig(json: string): ApiKeyRecord[] {
  try {
    return parseJson(ApiKeyRecords, json)
  } catch (cause) {
    // The operator's mistake, not the client's: it must not reach the client as invalid_request.
    throw new Error('the API_KEYS secret is not a valid list of keys', { cause })
  }
}

function fromHex(hex: string): Uint8Array {
  return Uint8Array.from(hex.match(/../g) ?? [], (byte) => Number.parseInt(byte, 16))
}
