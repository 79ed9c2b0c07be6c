import { readCheckpoint } from '../../gpu-node/checkpoint/checkpoint.ts'
import { explain } from '../explain.ts'
import { cachedModels, type Snapshot } from './hub/hub-cache.ts'
import { DEFAULT_REVISION } from './hub/hub-name.ts'
import { hubSettings } from './hub/hub-settings.ts'
import { type KnownModel, type KnownModels, knownModels } from './known.ts'
import { adapterPath, baseOf, knownPath, servedPath } from './resolve.ts'

export interface ListedModel {
  /** What --model takes. */
  readonly name: string
  readonly source: 'known' | 'hub'
  /** Undefined when it is not on this machine. */
  readonly path: string | undefined
  readonly bytes: number
  readonly canBeServed: boolean
  /** What a known model is, or why a model cannot be served. */
  readonly about: string
  readonly license: string | undefined
}

/** The known models, here or not, and those of the hub's cache. */
export function listModels(models = knownModels()): ListedModel[] {
  const known = [...models].map(([name, model]) => listKnown(name, model, models))
  const cached = cachedModels(hubSettings().cacheDir).flatMap(({ repo, snapshots }) =>
    snapshots.flatMap((snapshot) => listSnapshot(repo, snapshot)),
  )
  return [...known, ...cached]
}

function listKnown(name: string, known: KnownModel, models: KnownModels): ListedModel {
  const { about, license, source } = known
  const isAdapter = 'adapter' in source
  const bytes = known.bytes + (isAdapter ? baseOf(source.base, models).bytes : 0)
  const listed = { name, source: 'known', bytes, about, license } as const
  const path = knownPath(name, known, models)
  if (path === undefined) return { ...listed, path, canBeServed: true }
  const problem = problemOf(() => path, isAdapter ? adapterPath(source) : undefined)
  return { ...listed, path, canBeServed: problem === undefined, about: problem ?? about }
}

/** A snapshot has a line for each of its names. */
function listSnapshot(repo: string, snapshot: Snapshot): ListedModel[] {
  const { commit, refs, folder, files } = snapshot
  const bytes = files.reduce((sum, file) => sum + file.bytes, 0)
  const revisions = refs.length > 0 ? refs : [commit]
  const names = revisions.map((revision) => (revision === DEFAULT_REVISION ? repo : `${repo}@${revision}`))
  return names.map((name) => {
    const problem = problemOf(() => servedPath(snapshot, name))
    const listed = { name, source: 'hub', path: folder, bytes, license: undefined } as const
    return { ...listed, canBeServed: problem === undefined, about: problem ?? '' }
  })
}

/** Undefined for a model that can be served. */
function problemOf(path: () => string, adapter?: string): string | undefined {
  try {
    readCheckpoint(path(), { adapter })
    return undefined
  } catch (error) {
    return explain(error).split('\n')[0]
  }
}
