import { existsSync, mkdirSync, rmSync } from 'node:fs'
import { dirname } from 'node:path'
import { UserError } from '../explain.ts'
import { lockFolder } from '../lock/folder-lock.ts'
import { bytesIn, cachedModels, isWithin, locksFolder, removeCached } from './hub/hub-cache.ts'
import { type HubName, parseHubName, showHubName } from './hub/hub-name.ts'
import { hubSettings, ownCache } from './hub/hub-settings.ts'
import { type KnownModel, knownModels, packageFilePath } from './known.ts'
import { hubNameOf } from './resolve.ts'

/** What a removal would delete. */
export interface Removal {
  /** For the question to the user. */
  readonly what: string
  readonly folder: string
  /** Returns the bytes freed. */
  run(): Promise<number>
}

/**
 * Plans to remove a model of the hub's cache, one of its revisions (`OWNER/NAME@REVISION`), or a known model. Only
 * what lies in the caches is removed.
 * @throws UserError `not_removed`
 */
export function planRemoval(text: string): Removal {
  const known = knownModels().get(text)
  if (known) return removeKnown(text, known)
  const name = parseHubName(text)
  if (name && name.file === undefined) return removeFromHubCache(name, text.includes('@'))
  const why =
    'only known names and models of the hub (OWNER/NAME[@REVISION]) are removed, never other folders'
  throw new UserError('not_removed', `${text} is not removed: ${why}`)
}

function removeKnown(name: string, { source }: KnownModel): Removal {
  if ('folder' in source) throw new UserError('not_removed', `${name} belongs to apar and is not removed`)
  if ('hub' in source) return removeFromHubCache(hubNameOf(source.hub, source.file), false)
  const folder = dirname(packageFilePath(name, source))
  if (!existsSync(folder)) throw notHere(name)
  refuseOutside(ownCache(), folder)
  const run = async () => {
    // With the weights that the engine has packed beside the file.
    const freed = bytesIn(folder)
    rmSync(folder, { recursive: true })
    return freed
  }
  return { what: name, folder, run }
}

function removeFromHubCache(name: HubName, onlyRevision: boolean): Removal {
  const { cacheDir } = hubSettings()
  const find = () => {
    const model = cachedModels(cacheDir).find(({ repo }) => repo === name.repo)
    const snapshot = model?.snapshots.find(
      ({ commit, refs }) => commit === name.revision || refs.includes(name.revision),
    )
    if (!model || (onlyRevision && !snapshot)) throw notHere(showHubName(name))
    return { model, snapshot: onlyRevision ? snapshot : undefined }
  }
  const { model, snapshot } = find()
  refuseOutside(cacheDir, model.folder)
  const run = async () => {
    const locks = locksFolder(cacheDir, name.repo)
    mkdirSync(locks, { recursive: true })
    const lock = await lockFolder(locks, (by) => {
      return new UserError('model_in_use', `${name.repo} is being pulled or removed by ${by}`)
    })
    try {
      const found = find()
      return removeCached(found.model, found.snapshot)
    } finally {
      lock.release()
    }
  }
  const all = model.snapshots.length > 1 && !onlyRevision ? `, all ${model.snapshots.length} revisions` : ''
  return { what: `${showHubName(name)}${all}`, folder: snapshot?.folder ?? model.folder, run }
}

/** A link in a cache may lead anywhere. */
function refuseOutside(cache: string, folder: string): void {
  if (isWithin(cache, folder)) return
  throw new UserError('not_removed', `${folder} is a link out of the cache: remove it by hand`)
}

function notHere(name: string): UserError {
  return new UserError('not_removed', `${name} is not in the caches: apar model list shows what is there`)
}
