import { randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach } from 'vitest'
import { parseHubName } from '../../../cli/models/hub/hub-name.ts'
import { type PullOptions, pullFromHub } from '../../../cli/models/hub/pull-from-hub.ts'
import type { Pulled } from '../../../cli/models/pull-progress.ts'
import { type FakeHub, startFakeHub } from '../../support/fake-hub.ts'

export const WEIGHTS = randomBytes(400_000)
/** Of the model `some/model`. */
export const FILES = {
  'config.json': Buffer.from('{"a": 1}'),
  'tokenizer.json': Buffer.from('{"b": 2}'),
  'model.safetensors': WEIGHTS,
  'README.md': Buffer.from('# A model'),
  'onnx/model.onnx': randomBytes(5000),
}

/** A hub with one model and an empty cache, made anew for each test. */
export interface Pulls {
  hub: FakeHub
  cacheDir: string
  /** What the progress has told. */
  notes: string[]
  received: number
  resumed: number
  pull(name?: string, more?: Partial<PullOptions> & { token?: string; offline?: boolean }): Promise<Pulled>
  /** A path in the model's folder of the cache. */
  stored(...path: string[]): string
  /** How many files the hub was asked for. */
  downloads(): number
}

export function usePulls(): Pulls {
  const pulls = {
    notes: [] as string[],
    received: 0,
    resumed: 0,
    stored: (...path: string[]) => join(pulls.cacheDir, 'models--some--model', ...path),
    downloads: () => pulls.hub.requests.filter(({ path }) => /\/resolve\//.test(path)).length,
    pull: async (name = 'some/model', { token, offline = false, ...options } = {}) => {
      const parsed = parseHubName(name)
      if (!parsed) throw new Error(`${name} is no name`)
      const settings = { endpoint: pulls.hub.url, token, cacheDir: pulls.cacheDir, offline }
      return await pullFromHub(parsed, { settings, progress, retryDelayMs: 1, ...options })
    },
  } as Pulls
  const progress: PullOptions['progress'] = {
    begin: ({ resumed }) => {
      pulls.resumed = resumed
    },
    received: (bytes) => {
      pulls.received += bytes
    },
    fileDone: () => {},
    note: (message) => pulls.notes.push(message),
  }
  beforeEach(async () => {
    const hub = await startFakeHub()
    hub.models.set('some/model', { files: FILES })
    const cacheDir = mkdtempSync(join(tmpdir(), 'apar-hub-'))
    Object.assign(pulls, { hub, cacheDir, notes: [], received: 0, resumed: 0 })
  })
  afterEach(async () => {
    await pulls.hub.close()
    rmSync(pulls.cacheDir, { recursive: true, force: true })
  })
  return pulls
}
