import { type ApiKeyRecord, ApiKeyRecords } from '../../shared/api-keys.ts'
import { parseJson } from '../../shared/parse.ts'

let parsed: { json: string; keys: ReadonlyMap<string, ApiKeyRecord> } | undefined

/** The keys of the `API_KEYS` secret (`json`), by id. They cannot be changed through the API. */
export function configuredKeys(json = '[]'): ReadonlyMap<string, ApiKeyRecord> {
  if (parsed?.json !== json) {
    parsed = { json, keys: new Map(parseConfig(json).map((key) => [key.id, key])) }
  }
  return parsed.keys
}

function parseConfig(json: string): ApiKeyRecord[] {
  try {
    return parseJson(ApiKeyRecords, json)
  } catch (cause) {
    // The operator's mistake: the client must not get it as invalid_request.
    throw new Error('the API_KEYS secret is not a valid list of keys', { cause })
  }
}
