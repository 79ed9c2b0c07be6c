import {
  type Dirent,
  lstatSync,
  mkdirSync,
  readdirSync,
  readlinkSync,
  realpathSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join, relative, resolve, sep } from 'node:path'
import { readTextFile } from '../../../gpu-node/checkpoint/regular-file.ts'
import { COMMIT, type HubName, isRelativePath } from './hub-name.ts'

/**
 * The cache of the Python library `huggingface_hub`: a folder `models--OWNER--NAME` for each model, in it
 * - `blobs/DIGEST`: the files' contents;
 * - `snapshots/COMMIT/PATH`: symbolic links to blobs, the files of a revision as far as they are here;
 * - `refs/REVISION`: the commit of a branch or tag when it was last pulled.
 */
export interface CachedModel {
  /** `OWNER/NAME`. */
  readonly repo: string
  readonly folder: string
  readonly snapshots: readonly Snapshot[]
}

export interface Snapshot {
  readonly commit: string
  /** Branches and tags that name it. */
  readonly refs: readonly string[]
  readonly folder: string
  readonly files: readonly SnapshotFile[]
}

export interface SnapshotFile {
  /** Within the repository. */
  readonly path: string
  readonly bytes: number
}

const PREFIX = 'models--'
const MAX_REF_BYTES = 1_000

export function modelFolder(cacheDir: string, repo: string): string {
  return join(cacheDir, PREFIX + repo.replaceAll('/', '--'))
}

/** For the claims of processes that write a model's folder (cli/lock/folder-lock.ts). */
export function locksFolder(cacheDir: string, repo: string): string {
  return join(cacheDir, '.locks', PREFIX + repo.replaceAll('/', '--'))
}

export function blobPath(folder: string, digest: string): string {
  return join(folder, 'blobs', digest)
}

/** The snapshot of a revision; undefined when it was never pulled. */
export function findSnapshot(
  cacheDir: string,
  { repo, revision }: Pick<HubName, 'repo' | 'revision'>,
): Snapshot | undefined {
  const snapshots = readModel(modelFolder(cacheDir, repo), repo)?.snapshots ?? []
  return snapshots.find(({ commit, refs }) => commit === revision || refs.includes(revision))
}

/** All models of the cache. What is no model, or is broken, is left out. */
export function cachedModels(cacheDir: string): CachedModel[] {
  return entries(cacheDir).flatMap(({ name }) => {
    const [owner, model, ...rest] = name.startsWith(PREFIX) ? name.slice(PREFIX.length).split('--') : []
    if (owner === undefined || rest.length > 0) return []
    const repo = model === undefined ? owner : `${owner}/${model}`
    try {
      return readModel(join(cacheDir, name), repo) ?? []
    } catch {
      // It must not hide the others. Whoever asks for this one by its name gets the error.
      return []
    }
  })
}

function readModel(folder: string, repo: string): CachedModel | undefined {
  const refs = filesBelow(join(folder, 'refs')).map((name) => ({
    name,
    commit: readRef(join(folder, 'refs', name)),
  }))
  const snapshots = entries(join(folder, 'snapshots')).flatMap((entry) => {
    const commit = entry.name
    if (!entry.isDirectory() || !COMMIT.test(commit)) return []
    const path = join(folder, 'snapshots', commit)
    const names = refs.filter((ref) => ref.commit === commit).map(({ name }) => name)
    return { commit, refs: names, folder: path, files: snapshotFiles(path) }
  })
  if (snapshots.length === 0) return undefined
  return { repo, folder, snapshots }
}

/** Undefined for what is no ref: it is left out, so that the model's other revisions stay usable. */
function readRef(path: string): string | undefined {
  try {
    return readTextFile(path, MAX_REF_BYTES)?.trim()
  } catch {
    return undefined
  }
}

/** In a folder with a dot: what programs keep beside a model, such as the engine's packed weights in `.apar`. */
const IN_DOT_FOLDER = /(^|\/)\.[^/]*\//

/** The files of the repository. Links to blobs that are gone are left out. */
function snapshotFiles(folder: string): SnapshotFile[] {
  return filesBelow(folder).flatMap((path) => {
    if (IN_DOT_FOLDER.test(path)) return []
    const bytes = sizeOf(join(folder, path))
    return bytes === undefined ? [] : { path, bytes }
  })
}

/** Makes a file of a snapshot: a relative link to its blob, so that the cache may be moved. */
export function linkBlob(folder: string, commit: string, path: string, digest: string): void {
  if (!isRelativePath(path)) throw new Error(`${path} leads out of the snapshot`)
  const link = join(folder, 'snapshots', commit, path)
  mkdirSync(dirname(link), { recursive: true })
  rmSync(link, { force: true })
  symlinkSync(relative(dirname(link), blobPath(folder, digest)), link)
}

export function writeRef(folder: string, revision: string, commit: string): void {
  if (COMMIT.test(revision)) return
  const path = join(folder, 'refs', revision)
  mkdirSync(dirname(path), { recursive: true })
  writeFileSync(path, commit)
}

/** Removes a model, or only one of its snapshots with the blobs that no other snapshot uses. Returns the bytes freed. */
export function removeCached(model: CachedModel, snapshot?: Snapshot): number {
  if (!snapshot || model.snapshots.length === 1) {
    const freed = bytesIn(join(model.folder, 'blobs')) + bytesIn(join(model.folder, 'snapshots'))
    rmSync(model.folder, { recursive: true, force: true })
    return freed
  }
  for (const ref of snapshot.refs) rmSync(join(model.folder, 'refs', ref), { force: true })
  const blobsOf = ({ folder }: Snapshot) =>
    filesBelow(folder).flatMap((path) => blobOf(model.folder, join(folder, path)))
  const kept = new Set(model.snapshots.filter(({ commit }) => commit !== snapshot.commit).flatMap(blobsOf))
  const unused = blobsOf(snapshot).filter((blob) => !kept.has(blob))
  const own = bytesIn(snapshot.folder)
  rmSync(snapshot.folder, { recursive: true, force: true })
  return [...new Set(unused)].reduce((sum, blob) => {
    const bytes = sizeOf(blob) ?? 0
    rmSync(blob, { force: true })
    return sum + bytes
  }, own)
}

/** The blob that a file of a snapshot links to; empty for a file of its own and for a link out of the model's blobs. */
function blobOf(folder: string, path: string): string[] {
  if (!lstatSync(path).isSymbolicLink()) return []
  const target = resolve(dirname(path), readlinkSync(path))
  return dirname(target) === join(folder, 'blobs') ? [target] : []
}

/** Whether a path, its links followed, is below a folder. */
export function isWithin(folder: string, path: string): boolean {
  return realpathSync(path).startsWith(realpathSync(folder) + sep)
}

/** Of a file, its links followed; undefined when it is none, or a link to itself. */
export function sizeOf(path: string): number | undefined {
  try {
    const stats = statSync(path, { throwIfNoEntry: false })
    return stats?.isFile() ? stats.size : undefined
  } catch (error) {
    if (codeOf(error) === 'ELOOP') return undefined
    throw error
  }
}

/** What the removal of a folder frees: all files in it, and nothing that links lead to. */
export function bytesIn(folder: string): number {
  return filesBelow(folder).reduce((sum, path) => {
    const stats = lstatSync(join(folder, path))
    return stats.isFile() ? sum + stats.size : sum
  }, 0)
}

/** Paths of files and links below a folder; links to folders are not followed. */
function filesBelow(folder: string): string[] {
  return entries(folder).flatMap((entry) => {
    if (!entry.isDirectory()) return [entry.name]
    return filesBelow(join(folder, entry.name)).map((path) => `${entry.name}/${path}`)
  })
}

/** Empty for a folder that is not there. */
function entries(folder: string): Dirent[] {
  try {
    return readdirSync(folder, { withFileTypes: true }).sort((a, b) => (a.name < b.name ? -1 : 1))
  } catch (error) {
    const code = codeOf(error)
    if (code === 'ENOENT' || code === 'ENOTDIR') return []
    throw error
  }
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && 'code' in error ? error.code : undefined
}
