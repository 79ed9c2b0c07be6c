import { randomBytes } from 'node:crypto'
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { commitOf, gitSha1, sha256 } from '../../support/fake-hub.ts'
import { FILES, usePulls, WEIGHTS } from './pulls.ts'

const here = usePulls()
const { pull, stored, downloads } = here

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
    expect(here.received).toBe(pulled.downloadedBytes)
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
    here.hub.models.set('some/model', { files })
    const { path } = await pull()
    expect(downloads() - before).toBe(1)
    expect(readFileSync(join(path, 'config.json'), 'utf8')).toBe('{"a": 3}')
    expect(readFileSync(join(old, 'config.json'), 'utf8')).toBe('{"a": 1}')
    expect(readFileSync(stored('refs', 'main'), 'utf8')).toBe(commitOf(files))
  })

  test('takes a branch or a commit', async () => {
    const files = { 'config.json': Buffer.from('{}'), 'model.safetensors': Buffer.from('x') }
    here.hub.models.set('some/model', { files: FILES, revisions: { 'v1.0': files } })
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
    here.hub.models.set('some/model', { files })
    await expect(pull()).rejects.toMatchObject({ code: 'choose_file' })
    const { path } = await pull('some/model:x.Q8_0.gguf')
    expect(readdirSync(path)).toEqual(['x.Q8_0.gguf'])
    await pull('some/model:x.Q4_0.gguf')
    expect(readdirSync(path)).toEqual(['x.Q4_0.gguf', 'x.Q8_0.gguf'])
  })

  test('that is pinned must have its checksum, before it is downloaded', async () => {
    here.hub.models.set('some/model', { files })
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
    here.hub.intercept = ({ host, range }, response, content) => {
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
    const ranges = here.hub.requests.filter(({ host }) => host === 'store').map(({ range }) => range)
    expect(ranges).toEqual([undefined, 'bytes=100000-', 'bytes=200000-', 'bytes=300000-'])
    expect(here.notes).toHaveLength(3)
    expect(here.notes[0]).toMatch(/^the connection to 127\.0\.0\.1:\d+ was cut .*; trying again in 1 s$/)
    expect(here.received).toBe(WEIGHTS.length + 16)
  })

  test('gives up when nothing comes any more, and goes on in the next process', async () => {
    here.hub.intercept = ({ host, range }, response, content) => {
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
    here.hub.intercept = () => false
    here.hub.requests.length = 0
    const { path } = await pull()
    expect(readFileSync(join(path, 'model.safetensors')).equals(WEIGHTS)).toBe(true)
    expect(here.hub.requests.filter(({ host }) => host === 'store')).toMatchObject([
      { range: 'bytes=150000-' },
    ])
  })

  test('begins anew at a server without ranges', async () => {
    leaveIncomplete(WEIGHTS.subarray(0, 1000))
    here.hub.intercept = ({ host }, response, content) => {
      if (host !== 'store') return false
      response.end(content)
      return true
    }
    const { path } = await pull()
    expect(readFileSync(join(path, 'model.safetensors')).equals(WEIGHTS)).toBe(true)
    expect(here.resumed + here.received).toBe(WEIGHTS.length + 16)
    expect(here.resumed).toBe(1000)
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
    here.hub.intercept = ({ host }, response, content) => {
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
    here.hub.intercept = ({ host }, response) => {
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
    here.hub.intercept = (_, response) => {
      if (busy-- <= 0) return false
      response.writeHead(429, { 'retry-after': '0' }).end()
      return true
    }
    await pull()
    expect(here.notes[0]).toMatch(
      /too many requests from here \(429\): try again later; trying again in 0 s$/,
    )
  })

  test('gets a new signed address when the store refuses one', async () => {
    let refusals = 1
    here.hub.intercept = ({ host }, response) => {
      if (host !== 'store' || refusals-- <= 0) return false
      response.writeHead(403).end('expired')
      return true
    }
    await pull()
    expect(here.notes).toEqual([
      expect.stringMatching(/keeps the files of some\/model, refuses to send one \(403\)/),
    ])
  })

  test('does not wait for a hub that asks for an hour', async () => {
    here.hub.intercept = (_, response) => {
      response.writeHead(429, { 'retry-after': '3600' }).end()
      return true
    }
    await expect(pull()).rejects.toMatchObject({ code: 'hub_busy' })
    expect(here.hub.requests).toHaveLength(1)
  })

  test('ends when the user cancels it, and keeps what has come', async () => {
    const cancel = new AbortController()
    here.hub.intercept = ({ host }, response, content) => {
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
