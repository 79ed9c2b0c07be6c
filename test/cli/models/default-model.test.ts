import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { UserError, type UserErrorCode } from '../../../cli/explain.ts'
import { DEFAULT_MODEL, EMBEDDED_MODEL, resolveDefault } from '../../../cli/models/default-model.ts'
import { inspectModel } from '../../../cli/models/inspect.ts'
import { type KnownModels, knownModels, packageFilePath } from '../../../cli/models/known.ts'
import { listModels } from '../../../cli/models/list.ts'
import { pullModel } from '../../../cli/models/pull.ts'
import { isKnownAndMissing, resolveKnown, resolveModel } from '../../../cli/models/resolve.ts'
import { adapterOf, servedName } from '../../../cli/models/served-name.ts'
import { packageRoot } from '../../../gpu-node/package-root.ts'

const PACKAGE = { package: 'base==1', file: 'x/base.gguf', sha256: '0'.repeat(64), packageBytes: 9 }
const common = { about: 'x', license: 'MIT' }
/** An adapter over a file of a package. */
const models: KnownModels = new Map([
  ['demo', { ...common, bytes: 1, source: { folder: 'models/demo' } }],
  ['base', { ...common, bytes: 4, source: PACKAGE }],
  ['tuned', { ...common, bytes: 2, source: { base: 'base', adapter: 'models/tuned' } }],
])
const adapter = join(packageRoot, 'models/tuned')

let cache: string
beforeEach(() => {
  cache = mkdtempSync(join(tmpdir(), 'apar-default-'))
  vi.stubEnv('XDG_CACHE_HOME', cache)
})
afterEach(() => {
  vi.unstubAllEnvs()
  rmSync(cache, { recursive: true })
})

const basePath = () => packageFilePath('base', PACKAGE)

function download(): void {
  mkdirSync(dirname(basePath()), { recursive: true })
  writeFileSync(basePath(), 'GGUF')
}

describe('a known model that is an adapter', () => {
  test('is there when its base is', () => {
    expect(isKnownAndMissing('tuned', models)).toBe(true)
    expect(resolveKnown('tuned', models)).toBeUndefined()
    expect(() => resolveModel('tuned', models)).toThrow('get it with apar model pull tuned')
    download()
    expect(isKnownAndMissing('tuned', models)).toBe(false)
    expect(resolveModel('tuned', models)).toEqual({ path: basePath(), name: 'tuned', adapter })
  })

  test('is pulled with its base', async () => {
    download()
    const progress = { begin: vi.fn(), received: vi.fn(), fileDone: vi.fn(), note: vi.fn() }
    expect(await pullModel('tuned', { progress, models })).toMatchObject({
      name: 'tuned',
      path: basePath(),
      adapter,
      downloadedBytes: 0,
    })
  })

  test('is listed with the bytes of both', () => {
    const listed = () => listModels(models).find(({ name }) => name === 'tuned')
    expect(listed()).toMatchObject({ bytes: 6, path: undefined, canBeServed: true })
    download()
    expect(listed()).toMatchObject({ path: basePath(), canBeServed: false })
  })

  test('has the known name, and no other adapter beside its own', () => {
    const model = { name: 'tuned', adapter }
    expect(servedName(model, {})).toBe('tuned')
    expect(adapterOf(model, {})).toBe(adapter)
    expect(adapterOf({ name: 'base' }, { adapter: 'mine' })).toBe('mine')
    expect(() => adapterOf(model, { adapter: 'mine' })).toThrow('--adapter: tuned has an adapter already')
  })

  test.each([
    ['nothing', 'nobody', 'models/tuned'],
    ['another adapter', 'tuned', 'models/tuned'],
    ['a folder elsewhere', 'base', '../tuned'],
  ])('over %s is refused', (_, base, folder) => {
    const file = join(cache, 'known.json')
    const more = { other: { ...common, bytes: 1, source: { base, adapter: folder } } }
    writeFileSync(file, JSON.stringify({ ...Object.fromEntries(models), ...more }))
    expect(() => knownModels(file)).toThrow(/source/)
  })

  test('is inspected as what it is merged to', async () => {
    await expect(inspectModel('models/demo', 'cpu', { adapter: join(cache, 'none') })).rejects.toThrow(
      /an adapter is a folder/,
    )
  })
})

describe('the default model', () => {
  const said: string[] = []
  const say = (line: string) => said.push(line)
  beforeEach(() => {
    said.length = 0
  })

  test('is known, and so is the embedded one, which needs no download', () => {
    expect(knownModels().has(DEFAULT_MODEL)).toBe(true)
    expect(resolveKnown(EMBEDDED_MODEL)).toEqual({ path: join(packageRoot, 'models/demo'), name: 'demo' })
  })

  test('is served as it is here', async () => {
    download()
    const pull = vi.fn()
    expect(await resolveDefault({ name: 'tuned', models, pull, say })).toMatchObject({ name: 'tuned' })
    expect(pull).not.toHaveBeenCalled()
    expect(said).toEqual([])
  })

  test('is downloaded first', async () => {
    const pull = vi.fn(async () => download())
    const model = await resolveDefault({ name: 'tuned', models, pull, say })
    expect(model).toEqual({ path: basePath(), name: 'tuned', adapter })
    expect(pull).toHaveBeenCalledWith('tuned')
  })

  test.each<[UserErrorCode, string]>([
    ['python_missing', 'there is no Python'],
    ['package_failed', 'no network'],
    ['wrong_checksum', 'its checksum is wrong'],
  ])('gives way to the embedded one after %s, with the reason in one line', async (code, reason) => {
    const pull = () => Promise.reject(new UserError(code, reason))
    const model = await resolveDefault({ name: 'tuned', models, pull, say })
    expect(model).toEqual({ path: join(packageRoot, 'models/demo'), name: 'demo' })
    expect(said).toEqual([
      expect.stringMatching(`^apar: serving demo, .* tuned is not here: ${reason} .${code}.$`),
    ])
  })

  test('does not give way when the user cancels the download, or to a defect', async () => {
    const cancelled = () => Promise.reject(new UserError('cancelled', 'the pull is cancelled'))
    await expect(resolveDefault({ name: 'tuned', models, pull: cancelled, say })).rejects.toThrow(/cancelled/)
    const broken = () => Promise.reject(new TypeError('a defect'))
    await expect(resolveDefault({ name: 'tuned', models, pull: broken, say })).rejects.toThrow('a defect')
  })
})
