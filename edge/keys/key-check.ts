import { waitUntil } from 'cloudflare:workers'
import { AparError } from '../../shared/errors.ts'
import type { Env } from '../env.ts'
import { logOf } from '../log.ts'
import { configuredKeys } from './configured-keys.ts'
import { CredentialMac } from './credential-mac.ts'
import { type Hashes, hasMac, isSecretOf } from './key-secrets.ts'
import { keyStoreOf } from './key-store.ts'

/** Then it is loaded again, while requests go on with the old one: keys without a MAC only become fewer. */
const FRESH_MS = 60_000
/** How long to wait for a load, also for one that fails: the next one begins only then. */
const LOADING_MS = 2_000

/**
 * Tells secrets of keys that exist, or existed, from all others, so that a stranger does not reach a Durable Object
 * (docs/adr/0024). One per isolate.
 */
export class KeyCheck {
  readonly mac: CredentialMac
  /** Keys that may have secrets without a MAC, by id. */
  readonly #unsigned: ReadonlyMap<string, Hashes>

  constructor(mac: CredentialMac, unsigned: ReadonlyMap<string, Hashes>) {
    this.mac = mac
    this.#unsigned = unsigned
  }

  /** Does the same work for every key id, known or not, so that the time of the answer does not tell ids. */
  async knows(env: Env, keyId: string, secret: string): Promise<boolean> {
    const record = configuredKeys(env.API_KEYS).get(keyId) ?? this.#unsigned.get(keyId)
    if (await hasMac(this.mac, keyId, secret)) return true
    return await isSecretOf(record, secret, Date.now() / 1000)
  }
}

let loaded: { readonly check: KeyCheck; readonly at: number } | undefined
let loading: { readonly check: Promise<KeyCheck | undefined>; readonly at: number } | undefined

/**
 * Asks KeyStore once per isolate, and then every minute. undefined when it has never answered: keys are then checked by
 * their KeyLimits objects only, which need no KeyStore when they are awake.
 */
export async function keyCheckOf(env: Env): Promise<KeyCheck | undefined> {
  const now = Date.now()
  if (loaded && isWithin(FRESH_MS, loaded.at, now)) return loaded.check
  if (!loading || !isWithin(LOADING_MS, loading.at, now)) {
    const check = load(env)
    loading = { check, at: now }
    // Other requests wait for it, so it must not be cancelled with the request that began it.
    waitUntil(check)
  }
  if (loaded) return loaded.check
  const late = new Promise<undefined>((resolve) => setTimeout(resolve, LOADING_MS))
  return await Promise.race([loading.check, late])
}

/** For new keys and tickets. @throws AparError `overloaded` while KeyStore has never answered. */
export async function macOf(env: Env): Promise<CredentialMac> {
  const check = await keyCheckOf(env)
  if (check) return check.mac
  throw new AparError('overloaded', 'keys and tickets cannot be made or checked at the moment')
}

async function load(env: Env): Promise<KeyCheck | undefined> {
  try {
    const { macSecret, unsigned } = await keyStoreOf(env).checkData()
    const mac = await CredentialMac.of(macSecret)
    const check = new KeyCheck(mac, new Map(unsigned.map(({ id, ...hashes }) => [id, hashes])))
    loaded = { check, at: Date.now() }
    return check
  } catch (cause) {
    logOf(env).error('the key store does not answer', {}, cause)
    return undefined
  }
}

/** Also false when the clock was set back. */
function isWithin(ms: number, since: number, now: number): boolean {
  return Math.abs(now - since) < ms
}
