import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { UserError } from '../../explain.ts'
import { lockFolder } from '../../lock/folder-lock.ts'
import { checkSpace } from '../disk-space.ts'
import type { Pulled, PullProgress } from '../pull-progress.ts'
import { chooseFiles } from './choose-files.ts'
import { download, type HubFile } from './download.ts'
import { askHub, type HubModel } from './hub-api.ts'
import { blobPath, findSnapshot, linkBlob, locksFolder, modelFolder, sizeOf, writeRef } from './hub-cache.ts'
import { type HubName, showHubName } from './hub-name.ts'
import type { HubSettings } from './hub-settings.ts'

export interface PullOptions {
  settings: HubSettings
  progress: PullProgress
  /** Patterns of the files to download. Default: what apar needs to serve the model. */
  include?: readonly string[] | undefined
  /** What a file must be, whatever the hub says. */
  pinned?: { readonly file: string; readonly sha256: string } | undefined
  signal?: AbortSignal | undefined
  retryDelayMs?: number | undefined
}

/** Files at the same time. */
const PARALLEL = 4

/**
 * Downloads the files of a model that are not in the cache yet. Its snapshot and ref appear when all files are there,
 * so that nothing finds half a model.
 * @throws UserError
 */
export async function pullFromHub(name: HubName, options: PullOptions): Promise<Pulled> {
  const { settings, progress, pinned, signal, retryDelayMs } = options
  const { cacheDir } = settings
  if (settings.offline) return pulledBefore(name, cacheDir)
  const onWait = (message: string) => progress.note(message)
  const model = await askHub(name, { settings, signal, retryDelayMs, onWait })
  const include = [...(options.include ?? []), ...(name.file === undefined ? [] : [name.file])]
  const chosen = chooseFiles(name.repo, model.files, include)
  for (const file of chosen) checkPinned(name, file, pinned)
  const folder = modelFolder(cacheDir, name.repo)
  const lock = await takeFolder(cacheDir, name)
  try {
    const missing = distinct(chosen).filter(({ digest, bytes }) => sizeOf(blobPath(folder, digest)) !== bytes)
    const bytes = missing.reduce((sum, file) => sum + file.bytes, 0)
    const resumed = missing.reduce((sum, file) => sum + begunBytes(folder, file), 0)
    await checkSpace(folder, bytes - resumed)
    const present = chosen.length - missing.length
    progress.begin({ name: showHubName(name), files: missing.length, bytes, resumed, present })
    mkdirSync(join(folder, 'blobs'), { recursive: true })
    await downloadAll(model, folder, missing, options)
    for (const { path, digest } of chosen) linkBlob(folder, model.commit, path, digest)
    writeRef(folder, name.revision, model.commit)
    return {
      name: showHubName(name),
      path: join(folder, 'snapshots', model.commit),
      commit: model.commit,
      files: chosen.map(({ path, bytes, digest }) => ({ path, bytes, digest })),
      downloadedBytes: bytes,
    }
  } finally {
    lock.release()
  }
}

function pulledBefore(name: HubName, cacheDir: string): Pulled {
  const snapshot = findSnapshot(cacheDir, name)
  if (!snapshot) {
    const why = `${showHubName(name)} is not in the cache (${cacheDir}), and HF_HUB_OFFLINE is set`
    throw new UserError('hub_offline', `${why}: unset it to download the model`)
  }
  const { commit, folder: path, files } = snapshot
  return { name: showHubName(name), path, commit, files, downloadedBytes: 0 }
}

function checkPinned(name: HubName, { path, digest }: HubFile, pinned: PullOptions['pinned']): void {
  if (!pinned || path !== pinned.file || digest === pinned.sha256) return
  const what = `${path} of ${showHubName(name)} has changed on the hub: its checksum is ${digest}`
  throw new UserError('wrong_checksum', `${what}, and models/known.json says ${pinned.sha256}`)
}

async function takeFolder(cacheDir: string, name: HubName) {
  const folder = locksFolder(cacheDir, name.repo)
  mkdirSync(folder, { recursive: true })
  return await lockFolder(folder, (by) => {
    const what = `${name.repo} is being pulled or removed by ${by}`
    return new UserError('model_in_use', `${what}: wait until that has ended`)
  })
}

/** What an earlier pull has left of a file; a part that is too long is not used. */
function begunBytes(folder: string, { digest, bytes }: HubFile): number {
  const begun = sizeOf(`${blobPath(folder, digest)}.incomplete`) ?? 0
  return begun > bytes ? 0 : begun
}

/** Two files with the same content are one blob. */
function distinct(files: readonly HubFile[]): HubFile[] {
  return [...new Map(files.map((file) => [file.digest, file])).values()]
}

/** The first failure ends the other downloads; what has come stays for the next try. */
async function downloadAll(
  { requests, urlOf }: HubModel,
  folder: string,
  files: readonly HubFile[],
  { progress, signal }: PullOptions,
): Promise<void> {
  const stop = new AbortController()
  const signals = [stop.signal, ...(signal ? [signal] : [])]
  const queue = [...files]
  const work = async () => {
    for (let file = queue.shift(); file; file = queue.shift()) {
      await download({
        requests,
        url: urlOf(file),
        file,
        path: blobPath(folder, file.digest),
        signal: AbortSignal.any(signals),
        onBytes: (count) => progress.received(count),
      })
      progress.fileDone(file.path, file.bytes)
    }
  }
  const workers = Array.from({ length: Math.min(PARALLEL, files.length) }, () =>
    work().catch((error: unknown) => {
      stop.abort(error)
      throw error
    }),
  )
  const failed = (await Promise.allSettled(workers)).find((result) => result.status === 'rejected')
  if (failed) throw stop.signal.reason ?? failed.reason
}
