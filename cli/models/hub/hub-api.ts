import { z } from 'zod'
import { UserError } from '../../explain.ts'
import type { HubFile } from './download.ts'
import { COMMIT, type HubName, isRelativePath } from './hub-name.ts'
import { HubRequests, Passing } from './hub-requests.ts'
import type { HubSettings } from './hub-settings.ts'

/** A repository at one commit. */
export interface HubModel {
  readonly commit: string
  readonly files: readonly HubFile[]
  readonly requests: HubRequests
  urlOf(file: HubFile): URL
}

export interface HubApiOptions {
  settings: HubSettings
  signal?: AbortSignal | undefined
  onWait?: ((message: string) => void) | undefined
  retryDelayMs?: number | undefined
}

const bytes = z.int().min(0)
const ModelAnswer = z.looseObject({ sha: z.string().regex(COMMIT), name: z.string() })
const FileAnswer = z.looseObject({
  type: z.literal('file'),
  path: z.string().refine(isRelativePath, 'leads out of its folder'),
  size: bytes,
  oid: z.string().regex(COMMIT),
  lfs: z.looseObject({ oid: z.string().regex(/^[0-9a-f]{64}$/), size: bytes }).optional(),
})

/** A repository with more files than this holds no model. */
const MAX_FILES = 100_000

/** Asks the hub for a model's newest commit of a revision, and for its files. @throws UserError */
export async function askHub(
  { repo, revision }: Pick<HubName, 'repo' | 'revision'>,
  { settings, signal, onWait, retryDelayMs }: HubApiOptions,
): Promise<HubModel> {
  // Only here: most commands need no hub.
  const { HUB_URL, listFiles, modelInfo } = await import('@huggingface/hub')
  const endpoint = settings.endpoint ?? HUB_URL
  const requests = new HubRequests({
    endpoint,
    token: settings.token,
    repo,
    signal,
    retryDelayMs,
    ...(onWait && { onWait }),
  })
  const call = { hubUrl: endpoint, fetch: requests.fetch }
  const understood = async <T>(ask: () => Promise<T>): Promise<T> => {
    try {
      return await ask()
    } catch (error) {
      if (error instanceof UserError || error instanceof Passing || signal?.aborted) throw error
      const reason = error instanceof z.ZodError ? z.prettifyError(error).replace(/\s+/g, ' ') : String(error)
      const what = `${new URL(endpoint).host} does not answer as a hub does (${reason.slice(0, 200)})`
      throw new UserError('hub_refused', `${what}: check HF_ENDPOINT`)
    }
  }
  const { sha, name } = await understood(async () =>
    ModelAnswer.parse(await modelInfo({ name: repo, revision, additionalFields: ['sha'], ...call })),
  )
  if (name !== repo) {
    const command = `apar model pull ${name}${revision === 'main' ? '' : `@${revision}`}`
    throw new UserError('hub_moved', `${repo} is now called ${name}: run ${command}`)
  }
  const files = await understood(async () => {
    const found: HubFile[] = []
    for await (const entry of listFiles({ repo, recursive: true, revision: sha, ...call })) {
      if (entry.type !== 'file') continue
      if (found.length === MAX_FILES) throw new Error(`more than ${MAX_FILES} files`)
      const { path, size, oid, lfs } = FileAnswer.parse(entry)
      found.push({ path, bytes: lfs?.size ?? size, digest: lfs?.oid ?? oid })
    }
    return found
  })
  const urlOf = ({ path }: HubFile) =>
    new URL(`${endpoint}/${repo}/resolve/${sha}/${path.split('/').map(encodeURIComponent).join('/')}`)
  return { commit: sha, files, requests, urlOf }
}
