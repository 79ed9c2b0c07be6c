import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { homedir, tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { DEFAULT_MODEL } from '../../../cli/models/default-model.ts'
import { chooseFiles } from '../../../cli/models/hub/choose-files.ts'
import { linkBlob, modelFolder, writeRef } from '../../../cli/models/hub/hub-cache.ts'
import { parseHubName, showHubName } from '../../../cli/models/hub/hub-name.ts'
import { hubSettings, ownCache } from '../../../cli/models/hub/hub-settings.ts'
import { type KnownModels, knownModels } from '../../../cli/models/known.ts'
import { isKnownAndMissing, resolveModel } from '../../../cli/models/resolve.ts'
import { packageRoot } from '../../../gpu-node/package-root.ts'

const PACKAGE = { package: 'tiny-model==1.0', file: 'tiny.gguf', sha256: '0'.repeat(64), packageBytes: 1 }

describe('names of the hub', () => {
  test.each([
    ['some/model', { repo: 'some/model', revision: 'main', file: undefined }],
    ['A-b_c.d/E.1@v1.0', { repo: 'A-b_c.d/E.1', revision: 'v1.0', file: undefined }],
    ['a/b@refs/pr/1:sub/x.gguf', { repo: 'a/b', revision: 'refs/pr/1', file: 'sub/x.gguf' }],
    ['a/b:x.gguf', { repo: 'a/b', revision: 'main', file: 'x.gguf' }],
  ])('%s', (text, name) => {
    expect(parseHubName(text)).toEqual(name)
    expect(showHubName(name)).toBe(text)
  })

  test.each([
    ...[
      '',
      'model',
      'a/b/c',
      '../b',
      'a/..',
      'a/.b',
      'a--c/b',
      'a/b--c',
      '/b',
      'a/',
      'a /b',
      'a\\c/b',
      '~/b',
      '.',
    ],
    ...[
      'a/b@',
      'a/b@..',
      'a/b@x/../../y',
      'a/b@/x',
      'a/b@-x',
      'a/b:',
      'a/b:../x',
      'a/b:/x',
      'a/b:c\\x',
      'a/b:C:/x',
    ],
    ...['a/b@x\0', `a/${'b'.repeat(97)}`],
  ])('%j is none', (text) => {
    expect(parseHubName(text)).toBeUndefined()
  })
})

describe('settings of the hub', () => {
  const settings = (env: Record<string, string>) => hubSettings({ HF_TOKEN_PATH: '/nowhere', ...env })

  test('by default those of the Python library', () => {
    expect(settings({})).toEqual({
      endpoint: undefined,
      token: undefined,
      cacheDir: join(homedir(), '.cache/huggingface/hub'),
      offline: false,
    })
    expect(ownCache({})).toBe(join(homedir(), '.cache/apar/models'))
  })

  test.each([
    [{ XDG_CACHE_HOME: '/x' }, '/x/huggingface/hub'],
    [{ XDG_CACHE_HOME: '/x', HF_HOME: '/h' }, '/h/hub'],
    [{ HF_HOME: '~/h' }, join(homedir(), 'h/hub')],
    [{ HF_HOME: '/h', HF_HUB_CACHE: '/c' }, '/c'],
    [{ HF_HOME: '/h', HUGGINGFACE_HUB_CACHE: '/c' }, '/c'],
  ])('%j', (env, cacheDir) => {
    expect(settings(env).cacheDir).toBe(cacheDir)
  })

  test('the token is in a variable, or in the file of hf auth login', () => {
    const home = mkdtempSync(join(tmpdir(), 'apar-home-'))
    writeFileSync(join(home, 'token'), 'hf_file\n')
    expect(hubSettings({ HF_HOME: home }).token).toBe('hf_file')
    expect(hubSettings({ HF_HOME: home, HF_TOKEN: ' hf_variable\n' }).token).toBe('hf_variable')
    rmSync(home, { recursive: true })
  })

  test('a value that cannot be used is refused, and not shown', () => {
    const message = (env: Record<string, string>) => {
      try {
        settings(env)
        return 'accepted'
      } catch (error) {
        return String(error)
      }
    }
    expect(message({ HF_TOKEN: 'hf_secret\nx: y' })).toMatch(/HF_TOKEN has characters/)
    expect(message({ HF_TOKEN: 'hf_secret\nx: y' })).not.toContain('secret')
    expect(message({ HF_ENDPOINT: 'https://user:secret@host' })).toMatch(/HF_ENDPOINT must be/)
    expect(message({ HF_ENDPOINT: 'https://user:secret@host' })).not.toContain('secret')
    expect(message({ HF_ENDPOINT: 'ftp://host' })).toMatch(/HF_ENDPOINT must be/)
    expect(settings({ HF_ENDPOINT: 'https://host/hub/' }).endpoint).toBe('https://host/hub')
  })

  test.each([
    ['1', true],
    ['TRUE', true],
    ['on', true],
    ['0', false],
    ['', false],
  ])('offline: %j', (text, offline) => {
    expect(settings({ HF_HUB_OFFLINE: text }).offline).toBe(offline)
  })
})

describe('the files that a pull takes', () => {
  const choose = (paths: string[], include?: string[]) =>
    chooseFiles(
      'some/model',
      paths.map((path) => ({ path, bytes: 1000 })),
      include,
    ).map(({ path }) => path)
  const small = ['config.json', 'tokenizer.json', 'chat_template.jinja', 'tokenizer.model']

  test('safetensors before torch files, and no second copy of the weights', () => {
    const weights = ['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors']
    const index = 'model.safetensors.index.json'
    const others = [
      'pytorch_model.bin',
      'consolidated.safetensors',
      'README.md',
      'x.Q4_0.gguf',
      'onnx/model.onnx',
    ]
    expect(choose([...others, ...small, index, ...weights])).toEqual([...small, index, ...weights])
  })

  test('torch files, with the heads of the published APAR checkpoints', () => {
    const files = [...small, 'pytorch_model-00001-of-00001.bin', 'pytorch_model.bin.index.json']
    const heads = ['medusa/config.json', 'medusa/medusa_lm_head.pt']
    const chosen = choose([...files, ...heads, 'training_args.bin', 'optimizer.pt'])
    expect(chosen.sort()).toEqual([...files, ...heads].sort())
  })

  test('adapters', () => {
    const files = ['adapter_config.json', 'adapter_model.safetensors']
    expect(choose([...files, 'README.md'])).toEqual(files)
  })

  test('the only GGUF file; of several one has to be chosen', () => {
    expect(choose(['README.md', 'config.json', 'x.Q4_0.gguf'])).toEqual(['x.Q4_0.gguf'])
    const several = ['x.Q4_0.gguf', 'x.Q8_0.gguf']
    expect(() => choose(several)).toThrow(
      'some/model has 2 GGUF files: choose one, for example --include x.Q4_0.gguf; there are x.Q4_0.gguf (1.0 kB), x.Q8_0.gguf (1.0 kB)',
    )
    expect(choose(several, ['*Q8*'])).toEqual(['x.Q8_0.gguf'])
  })

  test('a repository without a model is refused', () => {
    expect(() => choose(['README.md', 'data.parquet'])).toThrow(/no safetensors, .* at its top/)
  })

  test('characters of patterns other than * and ? stand for themselves', () => {
    expect(choose(['a.json', 'a+json', 'axjson'], ['a.json'])).toEqual(['a.json'])
    expect(choose(['x(1).gguf', 'x1.gguf'], ['x(?).gguf'])).toEqual(['x(1).gguf'])
  })
})

describe('the known models', () => {
  test('say their licence and what they are', () => {
    const models = knownModels()
    expect([...models.keys()]).toEqual(['demo', 'smollm2-135m-apar', 'smollm2-135m-instruct'])
    for (const { license, about } of models.values()) {
      expect(license).toMatch(/^(Apache-2\.0|MIT)\b/)
      expect(about).toMatch(/\b\d+(\.\d)? [MB] parameters\b/)
    }
  })

  test.each([
    ['no licence', { license: undefined }],
    ['a folder elsewhere', { source: { folder: '../elsewhere' } }],
    ['a file without its checksum', { source: { hub: 'some/model', file: 'x.gguf' } }],
    ['a package without its version', { source: { ...PACKAGE, package: 'tiny-model' } }],
  ])('with %s are refused', (_, change) => {
    const folder = mkdtempSync(join(tmpdir(), 'apar-known-'))
    const file = join(folder, 'known.json')
    const write = (model: object) => writeFileSync(file, JSON.stringify({ model }))
    const valid = { about: 'tiny', license: 'MIT', bytes: 1, source: PACKAGE }
    write(valid)
    expect(knownModels(file).get('model')).toEqual(valid)
    write({ ...valid, ...change })
    expect(() => knownModels(file)).toThrow(/license|source/)
    rmSync(folder, { recursive: true })
  })
})

describe('where a model may be named', () => {
  const commit = 'c'.repeat(40)
  let cache: string

  beforeEach(() => {
    cache = mkdtempSync(join(tmpdir(), 'apar-cache-'))
    vi.stubEnv('HF_HUB_CACHE', join(cache, 'hub'))
    vi.stubEnv('XDG_CACHE_HOME', cache)
  })

  afterEach(() => {
    vi.unstubAllEnvs()
    rmSync(cache, { recursive: true })
  })

  function cached(repo: string, files: string[], revision = 'main', at = commit): string {
    const folder = modelFolder(join(cache, 'hub'), repo)
    mkdirSync(join(folder, 'blobs'), { recursive: true })
    for (const path of files) {
      writeFileSync(join(folder, 'blobs', path.replaceAll('/', '-')), path)
      linkBlob(folder, at, path, path.replaceAll('/', '-'))
    }
    writeRef(folder, revision, at)
    return join(folder, 'snapshots', at)
  }

  test('a path that exists comes first', () => {
    expect(resolveModel('models/demo')).toEqual({ path: 'models/demo', name: undefined })
    const models: KnownModels = new Map([...knownModels()].map(([, model]) => ['models', model]))
    expect(resolveModel('models', models)).toEqual({ path: 'models', name: undefined })
  })

  test('a known name', () => {
    expect(resolveModel('demo')).toEqual({ path: join(packageRoot, 'models/demo'), name: 'demo' })
    const name = 'smollm2-135m-instruct'
    expect(isKnownAndMissing(name)).toBe(true)
    expect(() => resolveModel(name)).toThrow(
      `${name} is not on this machine: get it with apar model pull ${name}`,
    )
    const path = join(cache, 'apar/models', name, 'SmolLM2-135M-Instruct.Q4_1.gguf')
    mkdirSync(join(path, '..'), { recursive: true })
    writeFileSync(path, 'half of it')
    expect(isKnownAndMissing(name)).toBe(true)
    expect(isKnownAndMissing('demo')).toBe(false)
  })

  test('a known name of a file on the hub', () => {
    const source = { hub: 'some/model@v1', file: 'x.gguf', sha256: '0'.repeat(64) }
    const models: KnownModels = new Map([['known', { about: 'x', license: 'MIT', bytes: 1, source }]])
    expect(isKnownAndMissing('known', models)).toBe(true)
    const folder = cached('some/model', ['x.gguf', 'y.gguf'], 'v1')
    expect(resolveModel('known', models)).toEqual({ path: join(folder, 'x.gguf'), name: 'known' })
  })

  test('a model of the cache, by revision and by commit', () => {
    const folder = cached('some/model', ['config.json', 'model.safetensors'])
    const old = cached('some/model', ['config.json', 'model.safetensors'], 'v1', 'd'.repeat(40))
    expect(resolveModel('some/model')).toEqual({ path: folder, name: 'some/model' })
    expect(resolveModel('some/model@v1')).toEqual({ path: old, name: 'some/model@v1' })
    expect(resolveModel(`some/model@${'d'.repeat(40)}`).path).toBe(old)
    expect(() => resolveModel('some/model@v2')).toThrow(/get it with apar model pull some\/model@v2/)
    expect(() => resolveModel('other/model')).toThrow(
      'other/model is not on this machine: get it with apar model pull other/model',
    )
  })

  test('GGUF files of the cache', () => {
    const folder = cached('some/gguf', ['config.json', 'x.Q4_0.gguf'])
    expect(resolveModel('some/gguf')).toEqual({ path: join(folder, 'x.Q4_0.gguf'), name: 'some/gguf' })
    cached('some/gguf', ['x.Q8_0.gguf'])
    expect(() => resolveModel('some/gguf')).toThrow(
      /has here 2 GGUF files: .* some\/gguf:x\.Q4_0\.gguf; there are/,
    )
    expect(resolveModel('some/gguf:x.Q8_0.gguf')).toEqual({
      path: join(folder, 'x.Q8_0.gguf'),
      name: 'some/gguf',
    })
    expect(() => resolveModel('some/gguf:y.gguf')).toThrow(/apar model pull some\/gguf:y\.gguf/)
  })

  test('a GGUF file is served whatever lies beside it that is no checkpoint', () => {
    const folder = cached('some/gguf', ['config.json', 'm.gguf', 'medusa/heads.pt', 'onnx/weights.bin'])
    // The engine's packed weights, after the first start in int8 or int4.
    mkdirSync(join(folder, '.apar'))
    writeFileSync(join(folder, '.apar/cpu1-int4.bin'), 'packed')
    expect(resolveModel('some/gguf').path).toBe(join(folder, 'm.gguf'))
    cached('some/gguf', ['pytorch_model.bin.index.json'])
    expect(resolveModel('some/gguf').path).toBe(folder)
  })

  test('names do not lead out of the cache', () => {
    mkdirSync(join(cache, 'hub/models--a--b'), { recursive: true })
    mkdirSync(join(cache, 'outside'))
    for (const text of ['a/b@../../outside', 'a/b:../../outside', '../outside', 'a/b@..']) {
      expect(() => expect(resolveModel(text).path).toBe(text)).not.toThrow()
    }
  })

  test('what looks like a path is one, and a word that is nothing is refused', () => {
    for (const path of ['/nowhere', './nowhere', 'a/b/c', 'x.gguf']) {
      expect(resolveModel(path)).toEqual({ path, name: undefined })
    }
    expect(() => resolveModel('nothing')).toThrow(
      'there is no file or folder nothing here; the known names are demo, smollm2-135m-apar, smollm2-135m-instruct, and a model of the hub is OWNER/NAME',
    )
  })
})

test('what apar serve proposes to ask the default model is the prompt of the README and of the page', () => {
  const example = knownModels().get(DEFAULT_MODEL)?.example ?? ''
  expect(example).not.toBe('')
  for (const file of ['README.md', 'edge/web/state/state.ts'])
    expect(readFileSync(join(packageRoot, file), 'utf8')).toContain(example)
})
