import { execFileSync } from 'node:child_process'
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { linkBlob, modelFolder, writeRef } from '../../../cli/models/hub/hub-cache.ts'
import { listModels } from '../../../cli/models/list.ts'
import { planRemoval } from '../../../cli/models/remove.ts'
import { requires } from '../../support/requires.ts'

const DEMO = [
  'config.json',
  'generation_config.json',
  'model.safetensors',
  'tokenizer.json',
  'tokenizer_config.json',
]
const [FIRST, SECOND] = ['a'.repeat(40), 'b'.repeat(40)] as const

let root: string
let hub: string

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'apar-cache-'))
  hub = join(root, 'hub')
  vi.stubEnv('HF_HUB_CACHE', hub)
  vi.stubEnv('XDG_CACHE_HOME', root)
})

afterEach(() => {
  vi.unstubAllEnvs()
  rmSync(root, { recursive: true, force: true })
})

/** A revision of a model whose files have these contents. */
function revision(
  repo: string,
  commit: string,
  ref: string | undefined,
  files: Record<string, string>,
): void {
  const folder = modelFolder(hub, repo)
  mkdirSync(join(folder, 'blobs'), { recursive: true })
  for (const [path, content] of Object.entries(files)) {
    writeFileSync(join(folder, 'blobs', `blob-of-${content}`), content)
    linkBlob(folder, commit, path, `blob-of-${content}`)
  }
  if (ref !== undefined) writeRef(folder, ref, commit)
}

const blobs = (repo: string) => readdirSync(join(modelFolder(hub, repo), 'blobs'))

describe('the list', () => {
  test('without caches has the known models', () => {
    expect(listModels()).toMatchObject([
      { name: 'demo', source: 'known', canBeServed: true, path: expect.stringMatching(/models.demo$/) },
      { name: 'smollm2-135m-apar', source: 'known', canBeServed: true, path: undefined },
      {
        name: 'smollm2-135m-instruct',
        source: 'known',
        canBeServed: true,
        path: undefined,
        license: 'Apache-2.0',
      },
    ])
  })

  test('has the known models themselves, not folders of their names in the working folder', () => {
    const names = ['demo', 'smollm2-135m-apar', 'smollm2-135m-instruct']
    for (const name of names) mkdirSync(join(root, name))
    const repository = process.cwd()
    process.chdir(root)
    try {
      expect(listModels()).toMatchObject([
        { name: 'demo', canBeServed: true, path: expect.stringMatching(/models.demo$/) },
        { name: 'smollm2-135m-apar', canBeServed: true, path: undefined },
        { name: 'smollm2-135m-instruct', canBeServed: true, path: undefined },
      ])
    } finally {
      process.chdir(repository)
    }
  })

  test('has each revision of the cache, and says which can be served', () => {
    const folder = modelFolder(hub, 'some/demo')
    mkdirSync(join(folder, 'blobs'), { recursive: true })
    for (const file of DEMO) {
      cpSync(`models/demo/${file}`, join(folder, 'blobs', file))
      linkBlob(folder, FIRST, file, file)
    }
    writeRef(folder, 'main', FIRST)
    revision('some/other', FIRST, 'v1', { 'config.json': '{}' })
    revision('some/other', SECOND, undefined, { 'x.gguf': 'x', 'y.gguf': 'y' })
    mkdirSync(join(folder, 'snapshots', FIRST, '.apar'))
    writeFileSync(join(folder, 'snapshots', FIRST, '.apar/cpu1-int8.bin'), 'not of the repository')
    mkdirSync(join(hub, 'datasets--some--data/snapshots', FIRST), { recursive: true })
    mkdirSync(join(hub, 'models--empty--model/snapshots'), { recursive: true })
    writeFileSync(join(hub, 'version.txt'), '1')
    const listed = listModels().filter(({ source }) => source === 'hub')
    expect(listed).toMatchObject([
      {
        name: 'some/demo',
        bytes: DEMO.reduce((sum, file) => sum + statSync(`models/demo/${file}`).size, 0),
        canBeServed: true,
        about: '',
      },
      {
        name: 'some/other@v1',
        canBeServed: false,
        about: expect.stringMatching(/config\.json: architectures/),
      },
      {
        name: `some/other@${SECOND}`,
        canBeServed: false,
        about: expect.stringMatching(/2 GGUF files: choose one/),
      },
    ])
  })
})

/** Entries of a cache that are none. */
function breakCache(): void {
  symlinkSync('models--loop--model', modelFolder(hub, 'loop/model'))
  const folder = modelFolder(hub, 'some/model')
  execFileSync('mkfifo', [join(folder, 'refs/fifo')])
  writeFileSync(join(folder, 'refs/long'), FIRST + '\n'.repeat(10_000))
  symlinkSync('loop', join(folder, 'refs/loop'))
  symlinkSync('loop', join(folder, 'snapshots', FIRST, 'loop'))
}

describe.skipIf(!requires('FIFOs', () => process.platform !== 'win32'))('broken entries of the cache', () => {
  beforeEach(() => {
    revision('some/model', FIRST, 'main', { 'config.json': '{}' })
    revision('some/other', FIRST, 'v1', { 'config.json': '{}' })
    breakCache()
  })

  test('hide no model from the list', () => {
    const listed = listModels().filter(({ source }) => source === 'hub')
    expect(listed.map(({ name }) => name)).toEqual(['some/model', 'some/other@v1'])
  })

  test('keep no model from being removed', async () => {
    expect(await planRemoval('some/other').run()).toBe(2)
    expect(await planRemoval('some/model@main').run()).toBe(2)
    expect(readdirSync(hub).sort()).toEqual(['.locks', 'models--loop--model'])
    expect(() => planRemoval('loop/model')).toThrow(/is not in the caches/)
  })
})

describe('a removal', () => {
  test('of a model removes all of it, and nothing beside it', async () => {
    revision('some/model', FIRST, 'main', { a: 'one' })
    revision('some/other', FIRST, 'main', { a: 'one' })
    const removal = planRemoval('some/model')
    expect(removal).toMatchObject({ what: 'some/model', folder: modelFolder(hub, 'some/model') })
    expect(existsSync(removal.folder)).toBe(true)
    expect(await removal.run()).toBe(3)
    expect(readdirSync(hub).sort()).toEqual(['.locks', 'models--some--other'])
  })

  test('of a revision keeps the blobs that another one uses', async () => {
    revision('some/model', FIRST, 'v1', { a: 'shared', b: 'first' })
    revision('some/model', SECOND, 'main', { 'below/a': 'shared', b: 'second' })
    expect(await planRemoval('some/model@v1').run()).toBe(5)
    expect(blobs('some/model').sort()).toEqual(['blob-of-second', 'blob-of-shared'])
    expect(readdirSync(join(modelFolder(hub, 'some/model'), 'refs'))).toEqual(['main'])
    expect(await planRemoval('some/model@main').run()).toBe(12)
    expect(existsSync(modelFolder(hub, 'some/model'))).toBe(false)
  })

  test('does not follow links out of the cache', async () => {
    const outside = join(root, 'outside')
    mkdirSync(join(outside, 'blobs'), { recursive: true })
    writeFileSync(join(outside, 'blobs/file'), 'precious')
    revision('some/model', FIRST, 'v1', { a: 'one' })
    revision('some/model', SECOND, 'main', { a: 'two' })
    const snapshot = join(modelFolder(hub, 'some/model'), 'snapshots', FIRST)
    symlinkSync(join(outside, 'blobs/file'), join(snapshot, 'link'))
    symlinkSync(outside, join(snapshot, 'folder'))
    await planRemoval('some/model@v1').run()
    await planRemoval('some/model').run()
    expect(readdirSync(join(outside, 'blobs'))).toEqual(['file'])
    // The whole folder of a model may be such a link.
    mkdirSync(join(outside, 'snapshots', FIRST), { recursive: true })
    symlinkSync(outside, modelFolder(hub, 'linked/model'))
    expect(() => planRemoval('linked/model')).toThrow(/is a link out of the cache/)
  })

  test('of a known model removes its file', async () => {
    const name = 'smollm2-135m-instruct'
    expect(() => planRemoval(name)).toThrow(/is not in the caches/)
    const folder = join(root, 'apar/models', name)
    mkdirSync(folder, { recursive: true })
    writeFileSync(join(folder, 'file.gguf'), 'x')
    mkdirSync(join(folder, '.apar'))
    writeFileSync(join(folder, '.apar/cpu1-int4.bin'), 'packed')
    expect(await planRemoval(name).run()).toBe(7)
    expect(existsSync(folder)).toBe(false)
  })

  test('counts the packed weights beside a model of the hub', async () => {
    revision('some/model', FIRST, 'v1', { a: 'shared' })
    revision('some/model', SECOND, 'main', { a: 'shared' })
    for (const commit of [FIRST, SECOND]) {
      const folder = join(modelFolder(hub, 'some/model'), 'snapshots', commit, '.apar')
      mkdirSync(folder)
      writeFileSync(join(folder, 'cpu1-int8.bin'), 'packed')
    }
    expect(await planRemoval('some/model@v1').run()).toBe(6)
    expect(await planRemoval('some/model').run()).toBe(12)
  })

  test.each([
    ['demo', /demo belongs to apar/],
    ['no/such', /no\/such is not in the caches/],
    ['models/demo@v1', /models\/demo@v1 is not in the caches/],
    ['/etc', /\/etc is not removed: only known names/],
    ['../..', /is not removed: only known names/],
    ['a/b:c', /is not removed: only known names/],
  ])('of %s is refused', (name, reason) => {
    expect(() => planRemoval(name)).toThrow(reason)
  })
})
