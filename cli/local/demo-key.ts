import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { API_KEY_PATTERN } from '../../shared/api-keys.ts'
import { UserError } from '../explain.ts'
import { apiKeyOf, type NewKey, newApiKey } from '../keys.ts'
import { makeFolder } from './edge.ts'

const ID = 'demo'
const FILE = 'demo-key'

/**
 * The key that `apar serve` prints: a new one, or with a state folder that of its first start. The folder keeps it as
 * text, for its owner only, because it is printed again.
 * @throws UserError `invalid_option`
 */
export function demoKey(requestsPerMinute: number, stateDir: string | undefined): NewKey {
  const made = newApiKey(ID, requestsPerMinute)
  if (stateDir === undefined) return made
  makeFolder(stateDir)
  const file = join(stateDir, FILE)
  try {
    // Only where there is none: another `serve` may be making it.
    writeFileSync(file, `${made.key}\n`, { mode: 0o600, flag: 'wx' })
    return made
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    if (code !== 'EEXIST') throw new UserError('invalid_option', `${file} cannot be written: ${message}`)
  }
  const [, id, secret] = readFileSync(file, 'utf8').trim().match(API_KEY_PATTERN) ?? []
  if (id !== ID || secret === undefined) {
    throw new UserError('invalid_option', `${file} does not hold a key: remove it, and a new one is made`)
  }
  return apiKeyOf(ID, secret, requestsPerMinute)
}
