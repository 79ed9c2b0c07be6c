import { execFile, execFileSync } from 'node:child_process'
import { existsSync, mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { describe, expect, test } from 'vitest'
import { startFakeHub } from '../../support/fake-hub.ts'
import { requires } from '../../support/requires.ts'
import { FILES, usePulls } from './pulls.ts'

const here = usePulls()
const { pull, stored, downloads } = here

describe('tokens', () => {
  test('go to the hub only, not to a host that it redirects to', async () => {
    here.hub.models.set('some/model', { files: FILES, gated: true })
    await pull('some/model', { token: here.hub.token })
    const of = (host: string) => here.hub.requests.filter((request) => request.host === host)
    expect(of('store')).toHaveLength(1)
    expect(of('store').map(({ authorization }) => authorization)).toEqual([undefined])
    expect(new Set(of('hub').map(({ authorization }) => authorization))).toEqual(
      new Set([`Bearer ${here.hub.token}`]),
    )
  })

  test('are not sent to another host that a page of files names as the next one', async () => {
    const other = await startFakeHub()
    here.hub.intercept = ({ path }, response) => {
      if (!path.includes('/tree/')) return false
      response.setHeader('link', `<${other.url}/next>; rel="next"`)
      response.setHeader('content-type', 'application/json')
      response.end('[]')
      return true
    }
    const error = await pull('some/model', { token: here.hub.token }).catch((thrown: unknown) => thrown)
    expect(other.requests[0]).toMatchObject({ path: '/next' })
    expect(other.requests.filter(({ authorization }) => authorization !== undefined)).toEqual([])
    expect(String(error)).not.toContain(here.hub.token)
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
    here.hub.models.set('some/model', { files: FILES, ...more })
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
    here.hub.models.set('some/model', { files: FILES, revisions: { v1: FILES } })
    here.hub.moved.set('old/name', 'some/model')
    await expect(pull(name)).rejects.toMatchObject({ code, message: expect.stringMatching(message) })
  })

  test('a token that is not valid', async () => {
    here.hub.intercept = (_, response) => {
      response.writeHead(401).end('{"error": "Invalid credentials"}')
      return true
    }
    await expect(pull('some/model', { token: 'hf_old' })).rejects.toMatchObject({
      code: 'hub_refused',
      message: expect.stringMatching(/refuses the token in HF_TOKEN/),
    })
  })

  test('no network', async () => {
    const settings = {
      endpoint: 'http://127.0.0.1:9',
      token: undefined,
      cacheDir: here.cacheDir,
      offline: false,
    }
    await expect(pull('some/model', { settings })).rejects.toMatchObject({
      code: 'hub_unreachable',
      message: expect.stringMatching(/^127\.0\.0\.1:9 cannot be reached \(.+\): check the network/),
    })
  })

  test('a server that is no hub', async () => {
    here.hub.intercept = (_, response) => {
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
      here.hub.models.set('some/model', { files: { ...FILES, [path]: Buffer.from('{}') } })
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
    here.hub.requests.length = 0
    expect(await pull('some/model', { offline: true })).toMatchObject({ path, downloadedBytes: 0 })
    expect(here.hub.requests).toEqual([])
  })

  test('a disk that is too small', async () => {
    here.hub.intercept = ({ path }, response) => {
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
    here.hub.intercept = ({ host }) => host === 'store'
    const cancel = new AbortController()
    const first = pull('some/model', { signal: cancel.signal })
    while (!here.hub.requests.some(({ host }) => host === 'store'))
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
      here.hub.intercept = ({ host }) => {
        if (host === 'store') writeFileSync(join(small, 'filler'), Buffer.alloc(700_000))
        return false
      }
      const settings = { endpoint: here.hub.url, token: undefined, cacheDir: small, offline: false }
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
    const { stdout } = await promisify(execFile)(PYTHON, ['-c', script, here.cacheDir], {
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
    const path = await python(`print(${download})`, { HF_ENDPOINT: here.hub.url })
    here.hub.requests.length = 0
    expect(await pull()).toMatchObject({ path, downloadedBytes: 0 })
    expect(downloads()).toBe(0)
  })
})
