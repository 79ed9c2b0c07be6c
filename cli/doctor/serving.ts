import { once } from 'node:events'
import { createServer } from 'node:net'
import { DEFAULT_MODEL, EMBEDDED_MODEL } from '../models/default-model.ts'
import { freeBytes } from '../models/disk-space.ts'
import { ownCache } from '../models/hub/hub-settings.ts'
import { knownModels } from '../models/known.ts'
import { isKnownAndMissing } from '../models/resolve.ts'
import { showBytes } from '../models/show.ts'
import type { Finding } from './finding.ts'

export const DEFAULT_PORT = 8787
const LITTLE_DISK = 2 * 2 ** 30

/** Whether `apar serve` can listen. */
export async function port(number = DEFAULT_PORT): Promise<Finding> {
  const check = `port ${number}`
  const server = createServer()
  try {
    server.listen(number, '127.0.0.1')
    await once(server, 'listening')
    return { check, state: 'ok', found: 'free' }
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : String(error)
    const found =
      code === 'EADDRINUSE' ? 'in use: perhaps apar serve runs already' : `cannot be used (${code})`
    return { check, state: 'warning', found, remedy: 'apar serve --port 0 takes a free one' }
  } finally {
    server.close()
  }
}

/** Whether the default model is here. */
export function defaultModel(name = DEFAULT_MODEL): Finding {
  const check = 'default model'
  if (!isKnownAndMissing(name)) return { check, state: 'ok', found: `${name} is here` }
  const { bytes = 0 } = knownModels().get(name) ?? {}
  return {
    check,
    state: 'ok',
    found: `${name} (${showBytes(bytes)}) is downloaded at the first start; without a network ${EMBEDDED_MODEL} is served`,
  }
}

/** Room for models. */
export async function disk(folder = ownCache()): Promise<Finding> {
  const check = 'disk'
  const free = await freeBytes(folder)
  if (free === undefined)
    return { check, state: 'ok', found: `${folder}: the system does not say how much is free` }
  const found = `${showBytes(free)} free for models in ${folder}`
  if (free >= LITTLE_DISK) return { check, state: 'ok', found }
  return {
    check,
    state: 'warning',
    found,
    remedy: 'free some space, or set XDG_CACHE_HOME (HF_HOME) to another disk',
  }
}
