import { execFile, execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { parseHubName } from '../../../cli/models/hub/hub-name.ts'
import { type PullOptions, pullFromHub } from '../../../cli/models/hub/pull-from-hub.ts'
import type { PullProgress } from '../../../cli/models/pull-progress.ts'
import { commitOf, type FakeHub, gitSha1, sha256, startFakeHub } from '../../support/fake-hub.ts'
import { requires } from '../../support/requires.ts'

const WEIGHTS = randomBytes(400_000)
const FILES = {
  'config.json': Buffer.from('{"a": 1}'),
  'tokenizer.json': Buffer.from('{"b": 2}'),
  'model.safetensors': WEIGHTS,
  'README.md': Buffer.from('# A model'),
  'onnx/model.onnx': randomBytes(5000),
}

let hub: FakeHub
let cacheDir: string
let notes: string[]
let received: number
let resumed: number

beforeEach(async () => {
  hub = await startFakeHub()
  hub.models.set('some/model', { files: FILES })
  cacheDir = mkdtempSync(join(tmpdir(), 'apar-hub-'))
  notes = []
  received = 0
})

afterEach(async () => {
  await hub.close()
  rmSync(cacheDir, { recursive: true, force: true })
})

const progress: PullProgress = {
  begin: (plan) => {
    resumed = plan.resumed
  },
  received: (bytes) => {
    received += bytes
  },
  fileDone: () => {},
  note: (message) => notes.push(message),
}

async function pull(
  name = 'some/model',
  more: Partial<PullOptions> & { token?: string; offline?: boolean } = {},
) {
  const { token, offline = false, ...options } = more
  const parsed = parseHubName(name)
  if (!parsed) throw new Error(`${name} is no name`)
  const settings = { endpoint: hub.url, token, cacheDir, offline }
  return await pullFromHub(parsed, { settings, progress, retryDelayMs: 1, ...options })
}

const stored = (...path: string[]) => join(cacheDir, 'models--some--model', ...path)
const downloads = () => hub.requests.filter(({ path }) => /\/resolve\//.test(path)).length

describe('a pull', () => {
  test('stores what apar serves, in the layout of the Python library', async () => {
    const pulled = await pull()
    const commit = commitOf(FILES)
    expect(pulled).toMatchObject({ name: 'some/model', commit, path: stored('snapshots', commit) })
    expect(readFileSync(stored('refs', 'main'), 'utf8')).toBe(commit)
    expect(readdirSync(pulled.path).sort()).toEqual(['config.json', 'model.safetensors', 'tokenizer.json'])
    expect(readFileSync(join(pulled.path, 'model.safetensors')).equals(WEIGHTS)).toBe(true)
    expect(readlinkSync(join(pulled.path, 'model.safetensors'))).toBe(`../../blobs/${sha256(WEIGHTS)}`)
    expect(readdirSync(stored('blobs')).sort()).toEqual(
      [gitSha1(FILES['config.json']), gitSha1(FILES['tokenizer.json']), sha256(WEIGHTS)].sort(),
    )
    expect(received).toBe(pulled.downloadedBytes)
    expect(pulled.downloadedBytes).toBe(WEIGHTS.length + 16)
  })

  test('downloads nothing twice', async () => {
    await pull()
    const before = downloads()
    expect(await pull()).toMatchObject({ downloadedBytes: 0 })
    expect(downloads()).toBe(before)
  })

  test('downloads only what has changed in a new revision, and keeps the old one', async () => {
    const { path: old } = await pull()
    const before = downloads()
    const files = { ...FILES, 'config.json': Buffer.from('{"a": 3}') }
    hub.models.set('some/model', { files })
    const { path } = await pull()
    expect(downloads() - before).toBe(1)
    expect(readFileSync(join(path, 'config.json'), 'utf8')).toBe('{"a": 3}')
    expect(readFileSync(join(old, 'config.json'), 'utf8')).toBe('{"a": 1}')
    expect(readFileSync(stored('refs', 'main'), 'utf8')).toBe(commitOf(files))
  })

  test('takes a branch or a commit', async () => {
    const files = { 'config.json': Buffer.from('{}'), 'model.safetensors': Buffer.from('x') }
    hub.models.set('some/model', { files: FILES, revisions: { 'v1.0': files } })
    const branch = await pull('some/model@v1.0')
    expect(branch).toMatchObject({ name: 'some/model@v1.0', commit: commitOf(files) })
    expect(readFileSync(stored('refs', 'v1.0'), 'utf8')).toBe(commitOf(files))
    const commit = await pull(`some/model@${commitOf(FILES)}`)
    expect(commit.path).toBe(stored('snapshots', commitOf(FILES)))
    expect(readdirSync(stored('refs'))).toEqual(['v1.0'])
  })

  test('finds files by pattern, below folders too', async () => {
    const { path } = await pull('some/model', { include: ['onnx/*', 'READ??.md'] })
    expect(readdirSync(path).sort()).toEqual(['README.md', 'onnx'])
    expect(readlinkSync(join(path, 'onnx/model.onnx'))).toMatch(/^\.\.\/\.\.\/\.\.\/blobs\//)
    await expect(pull('some/model', { include: ['*.txt'] })).rejects.toMatchObject({
      code: 'choose_file',
      message: expect.stringMatching(/^some\/model has no file "\*\.txt": there are config\.json, /),
    })
  })
})

describe('one file of a repository', () => {
  const files = { 'x.Q4_0.gguf': randomBytes(2000), 'x.Q8_0.gguf': randomBytes(3000) }

  test('is named after a colon', async () => {
    hub.models.set('some/model', { files })
    await expect(pull()).rejects.toMatchObject({ code: 'choose_file' })
    const { path } = await pull('some/model:x.Q8_0.gguf')
    expect(readdirSync(path)).toEqual(['x.Q8_0.gguf'])
    await pull('some/model:x.Q4_0.gguf')
    expect(readdirSync(path)).toEqual(['x.Q4_0.gguf', 'x.Q8_0.gguf'])
  })

  test('that is pinned must have its checksum, before it is downloaded', async () => {
    hub.models.set('some/model', { files })
    const pinned = { file: 'x.Q4_0.gguf', sha256: sha256(files['x.Q4_0.gguf']) }
    await pull('some/model:x.Q4_0.gguf', { pinned })
    rmSync(stored(), { recursive: true })
    const before = downloads()
    const other = { ...pinned, sha256: '0'.repeat(64) }
    await expect(pull('some/model:x.Q4_0.gguf', { pinned: other })).rejects.toMatchObject({
      code: 'wrong_checksum',
      message: expect.stringMatching(/^x\.Q4_0\.gguf of some\/model:x\.Q4_0\.gguf has changed on the hub/),
    })
    expect(downloads()).toBe(before)
  })
})

describe('a pull that is disturbed', () => {
  test('goes on where it was cut, and asks the hub again for the signed address', async () => {
    let cuts = 0
    hub.intercept = ({ host, range }, response, content) => {
      if (host !== 'store' || !content || cuts === 3) return false
      cuts++
      const from = Number(/\d+/.exec(range ?? '')?.[0] ?? 0)
      response.writeHead(from > 0 ? 206 : 200, {
        'content-length': content.length - from,
        'content-range': `bytes ${from}-${content.length - 1}/${content.length}`,
      })
      response.write(content.subarray(from, from + 100_000), () => setTimeout(() => response.destroy(), 20))
      return true
    }
    const { path } = await pull()
    expect(readFileSync(join(path, 'model.safetensors')).equals(WEIGHTS)).toBe(true)
    const ranges = hub.requests.filter(({ host }) => host === 'store').map(({ range }) => range)
    expect(ranges).toEqual([undefined, 'bytes=100000-', 'bytes=200000-', 'bytes=300000-'])
    expect(notes).toHaveLength(3)
    expect(notes[0]).toMatch(/^the connection to 127\.0\.0\.1:\d+ was cut .*; trying again in 1 s$/)
    expect(received).toBe(WEIGHTS.length + 16)
  })

  test('gives up when nothing comes any more, and goes on in the next process', async () => {
    hub.intercept = ({ host, range }, response, content) => {
      if (host !== 'store' || !content) return false
      if (range === undefined) response.writeHead(200, { 'content-length': content.length })
      if (range === undefined)
        response.write(content.subarray(0, 150_000), () => setTimeout(() => response.destroy(), 20))
      else
        response
          .writeHead(206, { 'content-range': `${range.replace('=', ' ')}` })
          .write('', () => response.destroy())
      return true
    }
    await expect(pull()).rejects.toMatchObject({
      code: 'hub_unreachable',
      message: expect.stringContaining('run the command again'),
    })
    // Half a model is not found by anybody.
    expect(existsSync(stored('snapshots'))).toBe(false)
    expect(existsSync(stored('refs'))).toBe(false)
    hub.intercept = () => false
    hub.requests.length = 0
    const { path } = await pull()
    expect(readFileSync(join(path, 'model.safetensors')).equals(WEIGHTS)).toBe(true)
    expect(hub.requests.filter(({ host }) => host === 'store')).toMatchObject([{ range: 'bytes=150000-' }])
  })

  test('begins anew at a server without ranges', async () => {
    leaveIncomplete(WEIGHTS.subarray(0, 1000))
    hub.intercept = ({ host }, response, content) => {
      if (host !== 'store') return false
      response.end(content)
      return true
    }
    const { path } = await pull()
    expect(readFileSync(join(path, 'model.safetensors')).equals(WEIGHTS)).toBe(true)
    expect(resumed + received).toBe(WEIGHTS.length + 16)
    expect(resumed).toBe(1000)
  })

  test('repairs what an earlier try has left damaged', async () => {
    leaveIncomplete(Buffer.alloc(1000))
    const { path } = await pull()
    expect(readFileSync(join(path, 'model.safetensors')).equals(WEIGHTS)).toBe(true)
  })

  test.each([
    ['model.safetensors', WEIGHTS],
    ['config.json', FILES['config.json']],
  ])('refuses a %s with another checksum and keeps none of it', async (file, right) => {
    const wrong = Buffer.from(right)
    wrong[wrong.length - 1] = (wrong.at(-1) ?? 0) ^ 1
    hub.intercept = ({ host }, response, content) => {
      if (!content?.equals(right) || (right === WEIGHTS && host === 'hub')) return false
      response.end(wrong)
      return true
    }
    await expect(pull()).rejects.toMatchObject({
      code: 'wrong_checksum',
      message: expect.stringMatching(
        `^${file} was downloaded wrongly, its checksum is [0-9a-f]+, and the hub says`,
      ),
    })
    const blobs = readdirSync(stored('blobs'))
    expect(blobs.some((name) => name.startsWith(right === WEIGHTS ? sha256(right) : gitSha1(right)))).toBe(
      false,
    )
  })

  test('refuses a file that is longer than the hub says', async () => {
    hub.intercept = ({ host }, response) => {
      if (host !== 'store') return false
      response.end(Buffer.concat([WEIGHTS, Buffer.from('x')]))
      return true
    }
    await expect(pull()).rejects.toMatchObject({
      code: 'wrong_checksum',
      message: expect.stringMatching(/longer than the 400000 bytes/),
    })
  })

  test('waits as long as the hub asks, then goes on', async () => {
    let busy = 2
    hub.intercept = (_, response) => {
      if (busy-- <= 0) return false
      response.writeHead(429, { 'retry-after': '0' }).end()
      return true
    }
    await pull()
    expect(notes[0]).toMatch(/too many requests from here \(429\): try again later; trying again in 0 s$/)
  })

  test('gets a new signed address when the store refuses one', async () => {
    let refusals = 1
    hub.intercept = ({ host }, response) => {
      if (host !== 'store' || refusals-- <= 0) return false
      response.writeHead(403).end('expired')
      return true
    }
    await pull()
    expect(notes).toEqual([
      expect.stringMatching(/keeps the files of some\/model, refuses to send one \(403\)/),
    ])
  })

  test('does not wait for a hub that asks for an hour', async () => {
    hub.intercept = (_, response) => {
      response.writeHead(429, { 'retry-after': '3600' }).end()
      return true
    }
    await expect(pull()).rejects.toMatchObject({ code: 'hub_busy' })
    expect(hub.requests).toHaveLength(1)
  })

  test('ends when the user cancels it, and keeps what has come', async () => {
    const cancel = new AbortController()
    hub.intercept = ({ host }, response, content) => {
      if (host !== 'store' || !content) return false
      response.writeHead(200, { 'content-length': content.length })
      response.write(content.subarray(0, 50_000), () =>
        setTimeout(() => cancel.abort(new Error('cancelled')), 50),
      )
      return true
    }
    await expect(pull('some/model', { signal: cancel.signal })).rejects.toThrow('cancelled')
    expect(readFileSync(stored('blobs', `${sha256(WEIGHTS)}.incomplete`)).length).toBe(50_000)
  })

  function leaveIncomplete(content: Buffer): void {
    mkdirSync(stored('blobs'), { recursive: true })
    writeFileSync(stored('blobs', `${sha256(WEIGHTS)}.incomplete`), content)
  }
})

describe('tokens', () => {
  test('go to the hub only, not to a host that it redirects to', async () => {
    hub.models.set('some/model', { files: FILES, gated: true })
    await pull('some/model', { token: hub.token })
    const of = (host: string) => hub.requests.filter((request) => request.host === host)
    expect(of('store')).toHaveLength(1)
    expect(of('store').map(({ authorization }) => authorization)).toEqual([undefined])
    expect(new Set(of('hub').map(({ authorization }) => authorization))).toEqual(
      new Set([`Bearer ${hub.token}`]),
    )
  })

  test('are not sent to another host that a page of files names as the next one', async () => {
    const other = await startFakeHub()
    hub.intercept = ({ path }, response) => {
      if (!path.includes('/tree/')) return false
      response.setHeader('link', `<${other.url}/next>; rel="next"`)
      response.setHeader('content-type', 'application/json')
      response.end('[]')
      return true
    }
    const error = await pull('some/model', { token: hub.token }).catch((thrown: unknown) => thrown)
    expect(other.requests[0]).toMatchObject({ path: '/next' })
    expect(other.requests.filter(({ authorization }) => authorization !== undefined)).toEqual([])
    expect(String(error)).not.toContain(hub.token)
    await other.close()
  })
})

describe('what the hub refuses is one sentence', () => {
  test.each([
    [
      'a gated model without a token',
      { gated: true },
      undefined,
      'hub_gated',
      /^some\/model is gated: open the page .* set HF_TOKEN/,
    ],
    [
      'a gated model with a token without access',
      { gated: true },
      'hf_other',
      'hub_gated',
      /^some\/model is gated: .* with the account of your token/,
    ],
    [
      'a private model without a token',
      { private: true },
      undefined,
      'hub_not_found',
      /^there is no model some\/model on 127\.0\.0\.1:\d+, or it is private/,
    ],
  ])('%s', async (_, more, token, code, message) => {
    hub.models.set('some/model', { files: FILES, ...more })
    await expect(pull('some/model', { ...(token !== undefined && { token }) })).rejects.toMatchObject({
      code,
      message: expect.stringMatching(message),
    })
  })

  test.each([
    ['no/such', 'hub_not_found', /^there is no model no\/such on/],
    ['some/model@v9', 'hub_not_found', /^some\/model has no such revision/],
    ['old/name@v1', 'hub_moved', /^old\/name is now called some\/model: run apar model pull some\/model@v1$/],
  ])('%s', async (name, code, message) => {
    hub.models.set('some/model', { files: FILES, revisions: { v1: FILES } })
    hub.moved.set('old/name', 'some/model')
    await expect(pull(name)).rejects.toMatchObject({ code, message: expect.stringMatching(message) })
  })

  test('a token that is not valid', async () => {
    hub.intercept = (_, response) => {
      response.writeHead(401).end('{"error": "Invalid credentials"}')
      return true
    }
    await expect(pull('some/model', { token: 'hf_old' })).rejects.toMatchObject({
      code: 'hub_refused',
      message: expect.stringMatching(/refuses the token in HF_TOKEN/),
    })
  })

  test('no network', async () => {
    const settings = { endpoint: 'http://127.0.0.1:9', token: undefined, cacheDir, offline: false }
    await expect(pull('some/model', { settings })).rejects.toMatchObject({
      code: 'hub_unreachable',
      message: expect.stringMatching(/^127\.0\.0\.1:9 cannot be reached \(.+\): check the network/),
    })
  })

  test('a server that is no hub', async () => {
    hub.intercept = (_, response) => {
      response.setHeader('content-type', 'text/html')
      response.end('<html>log in</html>')
      return true
    }
    await expect(pull()).rejects.toMatchObject({
      code: 'hub_refused',
      message: expect.stringMatching(/HF_ENDPOINT/),
    })
  })

  test.each(['../../outside.json', '/etc/passwd', 'a\\b.json', 'C:/x.json'])(
    'a file called %s',
    async (path) => {
      hub.models.set('some/model', { files: { ...FILES, [path]: Buffer.from('{}') } })
      await expect(pull()).rejects.toMatchObject({
        code: 'hub_refused',
        message: expect.stringMatching(/leads out of its folder/),
      })
      expect(existsSync(dirname(stored('blobs')))).toBe(false)
    },
  )

  test('HF_HUB_OFFLINE', async () => {
    await expect(pull('some/model', { offline: true })).rejects.toMatchObject({ code: 'hub_offline' })
    const { path } = await pull()
    hub.requests.length = 0
    expect(await pull('some/model', { offline: true })).toMatchObject({ path, downloadedBytes: 0 })
    expect(hub.requests).toEqual([])
  })

  test('a disk that is too small', async () => {
    hub.intercept = ({ path }, response) => {
      if (!path.includes('/tree/')) return false
      const lfs = { oid: 'a'.repeat(64), size: 2 ** 52, pointerSize: 130 }
      response.setHeader('content-type', 'application/json')
      response.end(
        JSON.stringify([{ type: 'file', path: 'model.safetensors', oid: 'b'.repeat(40), size: 130, lfs }]),
      )
      return true
    }
    await expect(pull()).rejects.toMatchObject({
      code: 'disk_full',
      message: expect.stringMatching(/^4504 TB are to be downloaded to .*, and its disk has .* free: /),
    })
  })

  test('a second pull of the same model at the same time', async () => {
    hub.intercept = ({ host }) => host === 'store'
    const cancel = new AbortController()
    const first = pull('some/model', { signal: cancel.signal })
    while (!hub.requests.some(({ host }) => host === 'store'))
      await new Promise((resolve) => setTimeout(resolve, 5))
    await expect(pull()).rejects.toMatchObject({ code: 'model_in_use' })
    cancel.abort(new Error('enough'))
    await expect(first).rejects.toThrow('enough')
  })
})

const small = mkdtempSync(join(tmpdir(), 'apar-small-disk-'))

function mounted(): boolean {
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', small], { stdio: 'ignore' })
  return true
}

test.skipIf(!requires('the right to mount a small file system', mounted))(
  'a disk that fills up meanwhile',
  async () => {
    try {
      hub.intercept = ({ host }) => {
        if (host === 'store') writeFileSync(join(small, 'filler'), Buffer.alloc(700_000))
        return false
      }
      const settings = { endpoint: hub.url, token: undefined, cacheDir: small, offline: false }
      await expect(pull('some/model', { settings })).rejects.toMatchObject({
        code: 'disk_full',
        message: expect.stringMatching(/^the disk of .* is full: free some space/),
      })
    } finally {
      execFileSync('umount', [small])
    }
  },
)

const PYTHON = process.env.PYTHON ?? 'python3'
const hasLibrary = () => execFileSync(PYTHON, ['-c', 'import huggingface_hub']).length === 0

describe.skipIf(!requires(`huggingface_hub for ${PYTHON}`, hasLibrary))('the Python library', () => {
  async function python(code: string, env: Record<string, string> = {}): Promise<string> {
    const script = `import sys\nimport huggingface_hub as hub\n${code}`
    const { stdout } = await promisify(execFile)(PYTHON, ['-c', script, cacheDir], {
      env: { ...process.env, HF_HUB_DISABLE_TELEMETRY: '1', HF_HUB_DISABLE_PROGRESS_BARS: '1', ...env },
    })
    return stdout.trim()
  }

  test('finds what apar has pulled, without network', async () => {
    const { path } = await pull()
    const find = 'hub.snapshot_download("some/model", cache_dir=sys.argv[1], local_files_only=True)'
    expect(await python(`print(${find})`)).toBe(path)
    const scan = 'found = hub.scan_cache_dir(sys.argv[1])'
    const report = 'print([(r.repo_id, r.nb_files) for r in found.repos], found.warnings)'
    expect(await python(`${scan}\n${report}`)).toBe("[('some/model', 3)] []")
  })

  test('leaves nothing to download where it has pulled', async () => {
    const download = 'hub.snapshot_download("some/model", cache_dir=sys.argv[1])'
    const path = await python(`print(${download})`, { HF_ENDPOINT: hub.url })
    hub.requests.length = 0
    expect(await pull()).toMatchObject({ path, downloadedBytes: 0 })
    expect(downloads()).toBe(0)
  })
})
