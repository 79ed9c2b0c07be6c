import { readFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join, resolve } from 'node:path'
import { UserError } from '../../explain.ts'

/** What the environment says, in the variables of the Python library `huggingface_hub`. */
export interface HubSettings {
  /** Undefined: the hub that the library knows. Without a slash at the end. */
  readonly endpoint: string | undefined
  readonly token: string | undefined
  /** Has a folder `models--OWNER--NAME` for each model. */
  readonly cacheDir: string
  readonly offline: boolean
}

type Env = Readonly<Record<string, string | undefined>>

/** @throws UserError `invalid_option` for a value that cannot be used; the message has no part of a token. */
export function hubSettings(env: Env = process.env): HubSettings {
  const home = expand(env.HF_HOME || join(env.XDG_CACHE_HOME || '~/.cache', 'huggingface'))
  return {
    endpoint: endpointOf(env.HF_ENDPOINT),
    token: tokenOf(env, home),
    cacheDir: expand(env.HF_HUB_CACHE || env.HUGGINGFACE_HUB_CACHE || join(home, 'hub')),
    offline: isTrue(env.HF_HUB_OFFLINE || env.TRANSFORMERS_OFFLINE),
  }
}

/** Where apar keeps the models of known.json that do not come from the hub. */
export function ownCache(env: Env = process.env): string {
  return expand(join(env.XDG_CACHE_HOME || '~/.cache', 'apar/models'))
}

function endpointOf(text: string | undefined): string | undefined {
  if (!text) return undefined
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (!url || !['http:', 'https:'].includes(url.protocol) || url.username || url.password || url.search) {
    // Not shown: it may have a password.
    throw new UserError('invalid_option', 'HF_ENDPOINT must be an http: or https: address without a password')
  }
  return url.href.replace(/\/+$/, '')
}

function tokenOf(env: Env, home: string): string | undefined {
  const given = env.HF_TOKEN || env.HUGGING_FACE_HUB_TOKEN
  const token = (given ?? readToken(expand(env.HF_TOKEN_PATH || join(home, 'token')))).trim()
  // A header that cannot be sent would be shown in an error of fetch().
  if (!/^[\x21-\x7e]*$/.test(token)) {
    throw new UserError('invalid_option', 'HF_TOKEN has characters that no token has')
  }
  return token || undefined
}

/** The token that `hf auth login` has stored. */
function readToken(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}

function isTrue(text: string | undefined): boolean {
  return /^(1|on|yes|true)$/i.test(text ?? '')
}

function expand(path: string): string {
  return resolve(path.replace(/^~(?=\/|$)/, homedir()))
}
