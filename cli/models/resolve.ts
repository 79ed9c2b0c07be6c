import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { WEIGHT_FILES } from '../../gpu-node/checkpoint/weight-files.ts'
import { packageRoot } from '../../gpu-node/package-root.ts'
import { UserError } from '../explain.ts'
import { severalFiles } from './hub/choose-files.ts'
import { findSnapshot, type Snapshot } from './hub/hub-cache.ts'
import { type HubName, parseHubName, showHubName } from './hub/hub-name.ts'
import { hubSettings } from './hub/hub-settings.ts'
import { hasPackageFile, type KnownModel, type KnownModels, knownModels, packageFilePath } from './known.ts'

export interface ResolvedModel {
  /** What readCheckpoint() takes: a folder, or a GGUF file. */
  readonly path: string
  /** Folder of the adapter that is part of a known model. */
  readonly adapter?: string
  /** What clients call the model; undefined for a path, whose last part is the name. */
  readonly name: string | undefined
}

export const MODEL_ARGUMENT =
  'a folder, a .gguf file, a known name (apar model list), or OWNER/NAME[@REVISION] of the hub'

/**
 * Where a model lies that a user names by its path, by a name of models/known.json, or by
 * `OWNER/NAME[@REVISION][:FILE.gguf]` of the hub. A path that exists comes first. Nothing is downloaded.
 * @throws UserError `model_not_pulled`, `unknown_model`, `choose_file`
 */
export function resolveModel(text: string, models = knownModels()): ResolvedModel {
  if (existsSync(text)) return { path: text, name: undefined }
  if (models.has(text)) return resolveKnown(text, models) ?? notPulled(text)
  const hubName = parseHubName(text)
  if (hubName) {
    const path = cachedPath(hubName) ?? notPulled(showHubName(hubName))
    return { path, name: showHubName({ ...hubName, file: undefined }) }
  }
  // What looks like a path is one: the checkpoint's reader says what is wrong with it.
  if (/[/\\]/.test(text) || /\.gguf$/i.test(text)) return { path: text, name: undefined }
  const names = [...models.keys()].join(', ')
  throw new UserError(
    'unknown_model',
    `there is no file or folder ${text} here; the known names are ${names}, and a model of the hub is OWNER/NAME`,
  )
}

/** A known model, whatever the working folder has under its name; undefined while it is not pulled. */
export function resolveKnown(name: string, models = knownModels()): ResolvedModel | undefined {
  const known = models.get(name)
  const path = known && knownPath(name, known, models)
  if (!path) return undefined
  return { path, name, ...('adapter' in known.source && { adapter: adapterPath(known.source) }) }
}

/**
 * Where a known model lies, or the base of one that is an adapter; undefined while it is not
 * pulled.
 */
export function knownPath(name: string, known: KnownModel, models = knownModels()): string | undefined {
  const { source } = known
  if ('adapter' in source) return knownPath(source.base, baseOf(source.base, models), models)
  if ('folder' in source) return join(packageRoot, source.folder)
  if ('hub' in source) return cachedPath(hubNameOf(source.hub, source.file))
  return hasPackageFile(name, known, source) ? packageFilePath(name, source) : undefined
}

/** Whether `text` is a known name whose files are not here yet. */
export function isKnownAndMissing(text: string, models = knownModels()): boolean {
  const known = models.get(text)
  return known !== undefined && !existsSync(text) && knownPath(text, known, models) === undefined
}

export function adapterPath({ adapter }: { adapter: string }): string {
  return join(packageRoot, adapter)
}

/** Of an entry of known.json, which was checked when it was read. */
export function baseOf(base: string, models: KnownModels): KnownModel {
  const known = models.get(base)
  if (!known) throw new Error(`${base} is no known model`)
  return known
}

/** Of an entry of known.json, which was checked when it was read. */
export function hubNameOf(hub: string, file: string): HubName {
  const name = parseHubName(`${hub}:${file}`)
  if (!name) throw new Error(`${hub} is no name of the hub`)
  return name
}

function cachedPath(name: HubName): string | undefined {
  const snapshot = findSnapshot(hubSettings().cacheDir, name)
  const { file } = name
  if (!snapshot || file === undefined) return snapshot && servedPath(snapshot, showHubName(name))
  return snapshot.files.some(({ path }) => path === file) ? join(snapshot.folder, file) : undefined
}

/** The folder of a snapshot; its GGUF file, if the folder itself has no weights that are read. */
export function servedPath({ folder, files }: Snapshot, name: string): string {
  const [only, ...more] = files.filter(({ path }) => /\.gguf$/i.test(path))
  if (!only || files.some(({ path }) => WEIGHT_FILES.includes(path))) return folder
  if (more.length === 0) return join(folder, only.path)
  throw severalFiles(`${name} has here`, [only, ...more], (path) => `${name}:${path}`)
}

export function notPulled(name: string): never {
  throw new UserError(
    'model_not_pulled',
    `${name} is not on this machine: get it with apar model pull ${name}`,
  )
}
