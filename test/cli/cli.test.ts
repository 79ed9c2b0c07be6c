import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { createHash, randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises'
import type { AddressInfo } from 'node:net'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { sendFeedback, withdrawFeedback } from '../../client/index.ts'
import { API_KEY_PATTERN, ApiKeyRecord } from '../../shared/api-keys.ts'
import { requires } from '../support/requires.ts'
import { tinyCheckpoint } from '../support/tiny-checkpoint.ts'

const APAR = 'dist/apar.js'

interface Ran {
  code: number
  stdout: string
  stderr: string
}

async function apar(args: string[], env: Record<string, string> = {}, input = ''): Promise<Ran> {
  try {
    const options = { env: { ...process.env, APAR_API_KEY: '', NODE_SECRET: '', ...env } }
    const running = promisify(execFile)(process.execPath, [APAR, ...args], options)
    running.child.stdin?.end(input)
    const { stdout, stderr } = await running
    return { code: 0, stdout, stderr }
  } catch (error) {
    const { code, stdout, stderr } = error as Ran
    return { code, stdout, stderr }
  }
}

const lines = (text: string) => text.trim().split('\n')
/** What a server that does not start says, but for its patience on a busy machine. */
const complaints = (text: string) => lines(text).filter((line) => !line.startsWith('apar: loading the model'))

describe.skipIf(!requires('dist/apar.js (npm run setup)', () => existsSync(APAR)))('apar', () => {
  test('reports a taken port in one line', async () => {
    const holder = createServer().listen(0, '127.0.0.1')
    await once(holder, 'listening')
    const { port } = holder.address() as AddressInfo
    const { code, stderr } = await apar(['serve', '--model', 'demo', '--port', String(port)])
    holder.close()
    expect(code).toBe(1)
    expect(lines(stderr)).toEqual([expect.stringMatching(`^apar: port ${port} on 127.0.0.1 is in use`)])
  })

  test('doctor finds that this machine serves, as text and as JSON', async () => {
    const { code, stdout } = await apar(['doctor', '--json'])
    const findings: { check: string; state: string }[] = JSON.parse(stdout)
    expect(findings.filter(({ state }) => state === 'error')).toEqual([])
    expect(findings.map(({ check }) => check)).toEqual(expect.arrayContaining(['engine', 'edge runtime']))
    expect(code).toBe(0)
    const text = await apar(['doctor'], { PYTHON: '/nowhere/python3' })
    expect(text.code).toBe(0)
    expect(text.stdout).toMatch(/^! Python +\/nowhere\/python3 is missing\n +→ install Python/m)
  })

  test('completes commands and options', async () => {
    expect((await apar(['complete', '--', 'train', 'sf'])).stdout).toMatch(/^sft\t/)
    expect((await apar(['completion', 'bash'])).stdout).toContain('apar')
  })

  test('reports an invalid model folder in one line', async () => {
    const folder = tinyCheckpoint()
    folder.write('config.json', '{}')
    const { code, stderr } = await apar(['gpu-node', '--model', folder.path], { NODE_SECRET: 's' })
    folder.remove()
    expect(code).toBe(1)
    expect(lines(stderr)).toEqual([expect.stringMatching(/^apar: .*config\.json: architectures/)])
  })

  test('reports in one line that a device does not support an fp8 KV cache', async () => {
    const { code, stderr } = await apar(
      ['gpu-node', '--model', 'demo', '--device', 'cpu', '--kv-cache-dtype', 'fp8'],
      {
        NODE_SECRET: 's',
      },
    )
    expect(code).toBe(1)
    expect(lines(stderr).at(-1)).toMatch(/^apar: .*fp8 KV cache is for CUDA devices.*\(engine_unavailable\)$/)
  })

  test('serve gives its gpu node the chat template, which may be no name and no file', async () => {
    const { code, stderr } = await apar([
      'serve',
      '--model',
      'demo',
      '--port',
      '0',
      '--chat-template',
      'vicuna',
    ])
    expect(code).toBe(1)
    expect(complaints(stderr)).toEqual([
      expect.stringMatching(
        /^apar: --chat-template: .*\/vicuna does not exist, and vicuna_v1\.1, llama-2, chatml/,
      ),
    ])
  })

  test('serve exits when its gpu node fails to start, and only the node prints the reason', async () => {
    const { code, stderr } = await apar(['serve', '--port', '0', '--model', '/nowhere'])
    expect(code).toBe(1)
    expect(complaints(stderr)).toEqual([
      'apar: /nowhere is neither a folder nor a .gguf file (broken_checkpoint)',
    ])
  })

  test('serve gives its gpu node the adapter', async () => {
    const { code, stderr } = await apar(['serve', '--model', 'demo', '--port', '0', '--adapter', '/nowhere'])
    expect(code).toBe(1)
    expect(complaints(stderr)).toEqual(['apar: /nowhere: an adapter is a folder (broken_checkpoint)'])
  })

  test.each([
    [['gpu-node'], /NODE_SECRET is not set/],
    [['serve', '--port', '70000'], /whole number from 0 to 65535/],
    [['gpu-node', '--kv-cache-dtype', 'fp4'], /Allowed choices are auto, fp8/],
    [['serve', '--speculation', 'eagle'], /Allowed choices are auto, off, medusa, ngram/],
    [['gpu-node', '--speculation', 'eagle'], /Allowed choices are auto, off, medusa, ngram/],
    [['chat', 'hi', '--key', 'k', '--speculation', 'eagle'], /Allowed choices are auto, off, medusa/],
    [['chat', 'hi'], /an API key is needed.* \(missing_option\)/],
    [['chat', ' ', '--key', 'k'], /a question is needed/],
    [['chat', 'hi', '--key', 'k', '--temperature', 'abc'], /number from 0 to 2/],
    [['gpu-node', '--edge', 'foo'], /URL with http: or https:/],
    [['gpu-node', '--advertise', 'http://here'], /URL with ws: or wss:/],
    [['data', 'build', '--vocab-size', '5'], /whole number from 300/],
    [['chat', 'hi', '--key', 'k', '--url', 'http://127.0.0.1:9'], /nothing answers at/],
    [['keys', 'new', '--id', 'a b'], /letters, digits and hyphens/],
    [['keys', 'list'], /the admin key is needed.* \(missing_option\)/],
    [['keys', 'create', '--scopes', 'root'], /scopes are generate, models, usage/],
    [['keys', 'list', '--admin-key', 'k', '--url', 'http://127.0.0.1:9'], /nothing answers at/],
    [['dance'], /unknown command/],
  ])('%j is refused with a reason', async (args, reason) => {
    const { code, stderr } = await apar(args)
    expect(code).toBe(1)
    expect(stderr).toMatch(reason)
    expect(stderr).not.toMatch(/\n\s+at /)
  })

  test('creates keys that match their record', async () => {
    const { code, stdout } = await apar(['keys', 'new', '--id', 'team', '--requests-per-minute', '5'])
    expect(code).toBe(0)
    const [key = '', json = ''] = lines(stdout)
    const [, id, secret] = API_KEY_PATTERN.exec(key) ?? []
    const record = ApiKeyRecord.parse(JSON.parse(json))
    const hash = createHash('sha256').update(`${record.salt}${secret}`).digest('hex')
    expect(record).toMatchObject({ id: 'team', hash, limits: { requests_per_minute: 5 } })
    expect(id).toBe('team')
  })
})

const BUILT = existsSync('native/build/release/apar.node') && existsSync('models/demo/config.json')

describe.skipIf(!requires('the built engine and models/demo', () => BUILT))('apar serve', () => {
  let serving: ChildProcess | undefined
  afterEach(() => {
    serving?.kill('SIGKILL')
  })

  async function serve(
    args: string[] = [],
    more: Record<string, string> = {},
  ): Promise<{ url: string; key: string; process: ChildProcess }> {
    const child = spawn(process.execPath, [APAR, 'serve', '--model', 'demo', '--port', '0', ...args], {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: { ...process.env, APAR_ADMIN_KEY: 'admin-of-this-test', ...more },
    })
    serving = child
    let printed = ''
    child.stdout.on('data', (chunk) => {
      printed += chunk
    })
    await vi.waitFor(() => expect(printed).toContain('Ctrl-C'), { timeout: 60_000, interval: 50 })
    const url = /at (http:\S+)/.exec(printed)?.[1] ?? ''
    const key = /key {8}(\S+)/.exec(printed)?.[1] ?? ''
    return { url, key, process: child }
  }

  async function untilNothingListens(url: string): Promise<void> {
    await vi.waitFor(() => expect(fetch(`${url}/healthz`)).rejects.toThrow(), {
      timeout: 30_000,
      interval: 100,
    })
  }

  test('answers apar chat, and a signal ends all processes', { timeout: 120_000 }, async () => {
    const { url, key, process } = await serve()
    const answer = await apar(['chat', 'How do I use tar?', '--url', url, '--key', key, '--max-tokens', '60'])
    expect(answer).toMatchObject({ code: 0, stderr: '' })
    expect(answer.stdout.trim().length).toBeGreaterThan(10)
    const json = ['chat', '--json', '--url', url, '--key', key, '--max-tokens', '20']
    const piped = await apar(json, {}, 'How do I\nuse tar?\n')
    expect(JSON.parse(piped.stdout)).toMatchObject({
      model: 'demo',
      text: expect.stringMatching(/\w/),
      branches: expect.arrayContaining([expect.objectContaining({ id: 0, parent: null })]),
      usage: { completion_tokens: 20 },
    })
    expect(await apar(json, {}, ' \n')).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('missing_option'),
    })
    process.kill('SIGINT')
    const [code, signal] = await once(process, 'exit')
    expect({ code, signal }).toEqual({ code: 0, signal: null })
    await untilNothingListens(url)
  })

  test('creates, rotates and revokes keys', { timeout: 120_000 }, async () => {
    const { url, process } = await serve()
    const keys = (...args: string[]) =>
      apar(['keys', ...args, '--url', url], { APAR_ADMIN_KEY: 'admin-of-this-test' })
    const statusOf = async ({ stdout }: Ran) => {
      const headers = { authorization: `Bearer ${stdout.trim()}` }
      return (await fetch(`${url}/v1/models`, { headers })).status
    }
    const settings = ['--tokens-per-day', '1000', '--weight', '0.5', '--priority', '-2']
    const made = await keys('create', '--id', 'team', '--models', 'demo,other', ...settings)
    expect(await statusOf(made)).toBe(200)
    const list = await keys('list')
    expect(list.stdout).toMatch(/team.*good.*generate.*demo.*0\.5.*-2.*tokens_per_day 1000/)
    // No colours: the output may be written to a file.
    expect(list.stdout).not.toContain('\u001b')
    const [, secret] = /^apar_team_(.{16,})$/.exec(made.stdout.trim()) ?? []
    expect(secret).toBeDefined()
    expect(list.stdout).not.toContain(secret)
    const rotated = await keys('rotate', 'team')
    expect(await Promise.all([made, rotated].map(statusOf))).toEqual([401, 200])
    expect((await keys('revoke', 'team')).stdout).toBe('team is revoked\n')
    expect(await statusOf(rotated)).toBe(401)
    expect(await keys('revoke', 'nobody')).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/not_found/),
    })
    const stranger = await keys('list', '--admin-key', 'guess')
    expect(stranger.stderr).toMatch(/the admin key is not valid/)
    process.kill('SIGINT')
    await once(process, 'exit')
  })

  test('tells programs what they need as JSON: address and key, keys, votes', {
    timeout: 120_000,
  }, async () => {
    const child = spawn(process.execPath, [APAR, 'serve', '--model', 'demo', '--port', '0', '--json'], {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: { ...process.env, APAR_ADMIN_KEY: 'admin-of-this-test' },
    })
    serving = child
    let printed = ''
    child.stdout.on('data', (chunk) => {
      printed += chunk
    })
    await vi.waitFor(() => expect(printed).toContain('\n'), { timeout: 60_000, interval: 50 })
    const { url, key, model } = JSON.parse(printed)
    expect(model).toBe('demo')
    expect(await fetch(`${url}/v1/models`, { headers: { authorization: `Bearer ${key}` } })).toMatchObject({
      status: 200,
    })
    /** Output of a command that prints one JSON value, and nothing on the error output. */
    const json = async (...args: string[]) => {
      const ran = await apar([...args, '--json', '--url', url], { APAR_ADMIN_KEY: 'admin-of-this-test' })
      expect(ran).toMatchObject({ code: 0, stderr: '' })
      expect(lines(ran.stdout)).toHaveLength(1)
      return JSON.parse(ran.stdout)
    }
    const made = await json('keys', 'create', '--id', 'team')
    expect(made).toMatchObject({ id: 'team', key: expect.stringMatching(API_KEY_PATTERN) })
    expect(await json('keys', 'list')).toContainEqual(
      expect.objectContaining({ id: 'team', revoked_at: null }),
    )
    expect((await json('keys', 'rotate', 'team')).key).not.toBe(made.key)
    expect((await json('keys', 'revoke', 'team')).revoked_at).toBeGreaterThan(0)
    expect(await json('feedback', 'delete', 'key:team')).toEqual({ owner: 'key:team' })
    child.kill('SIGINT')
    await once(child, 'exit')
  })

  test('exports and deletes the votes of users', { timeout: 120_000 }, async () => {
    const { url, key, process } = await serve()
    await sendFeedback(url, key, { id: 'a', vote: 'down', model: 'demo', reason: 'Grüße\nund Küsse' })
    await sendFeedback(url, key, { id: 'b', vote: 'up', model: 'demo' })
    const feedback = (...args: string[]) =>
      apar(['feedback', ...args, '--url', url], { APAR_ADMIN_KEY: 'admin-of-this-test' })
    const all = lines((await feedback('export')).stdout).map((line) => JSON.parse(line))
    expect(all).toMatchObject([{ id: 'a', vote: 'down', reason: 'Grüße\nund Küsse' }, { id: 'b' }])
    expect((await feedback('export', '--after', String(all[0].number))).stdout).toContain('"id":"b"')
    await withdrawFeedback(url, key, 'a')
    expect(lines((await feedback('export')).stdout)).toHaveLength(1)
    expect((await feedback('delete', all[1].owner)).code).toBe(0)
    expect((await feedback('export')).stdout).toBe('')
    const stranger = await feedback('export', '--admin-key', 'guess')
    expect(stranger).toMatchObject({ code: 1, stderr: expect.stringMatching(/the admin key is not valid/) })
    process.kill('SIGINT')
    await once(process, 'exit')
  })

  test('accepts more gpu nodes with the given node secret, and keeps its state folder private', {
    timeout: 120_000,
  }, async () => {
    const parent = await mkdtemp(join(tmpdir(), 'apar-state-'))
    const state = join(parent, 'new')
    const { url, process } = await serve(['--state', state], { NODE_SECRET: 'shared-with-other-nodes' })
    const register = async (secret: string) =>
      (
        await fetch(`${url}/internal/v1/nodes/other`, {
          method: 'PUT',
          headers: { authorization: `Bearer ${secret}`, 'content-type': 'application/json' },
          body: '{}',
        })
      ).status
    expect(await Promise.all(['guess', 'shared-with-other-nodes'].map(register))).toEqual([401, 400])
    expect((await stat(state)).mode & 0o777).toBe(0o700)
    process.kill('SIGINT')
    await once(process, 'exit')
    await rm(parent, { recursive: true })
  })

  test('is told at once of a state folder that cannot be made', { timeout: 120_000 }, async () => {
    const parent = await mkdtemp(join(tmpdir(), 'apar-state-'))
    const file = join(parent, 'file')
    await writeFile(file, '')
    // Node's own recursive mkdir never returns in /proc.
    for (const state of [
      file,
      join(file, 'state'),
      ...(existsSync('/proc/self') ? ['/proc/apar/state'] : []),
    ]) {
      const { code, stderr } = await apar(['serve', '--port', '0', '--state', state])
      expect(code).toBe(1)
      expect(lines(stderr)).toEqual([
        expect.stringMatching(/^apar: the state folder .* cannot be made: .*\(invalid_option\)$/),
      ])
    }
    await rm(parent, { recursive: true })
  })

  test('is refused a state folder that another serve uses, until that one has ended in any way', {
    timeout: 120_000,
  }, async () => {
    const state = await mkdtemp(join(tmpdir(), 'apar-state-'))
    const { process: first } = await serve(['--state', state])
    const { code, stderr } = await apar(['serve', '--model', 'demo', '--port', '0', '--state', state])
    expect(code).toBe(1)
    expect(lines(stderr)).toEqual([
      expect.stringMatching(/^apar: the state folder .* is in use by process \d+: .*\(state_taken\)$/),
    ])
    first.kill('SIGKILL')
    await once(first, 'exit')
    const { process: second } = await serve(['--state', state])
    second.kill('SIGINT')
    await once(second, 'exit')
    expect((await readdir(state)).filter((name) => name.endsWith('.lock'))).toEqual([])
    await rm(state, { recursive: true })
  })

  test.skipIf(!requires('/proc, to find processes', () => existsSync('/proc/self/environ')))(
    'leaves no processes running when it is killed while it starts',
    { timeout: 120_000 },
    async () => {
      const mark = `APAR_TEST_MARK=${randomUUID()}`
      const [name = '', value] = mark.split('=')
      const env = { ...process.env, APAR_API_KEY: '', NODE_SECRET: '', [name]: value }
      // Before the gpu node runs, while it starts, while workerd starts, while the model loads, and after it.
      for (const delay of [50, 150, 300, 450, 600, 750, 900, 1050, 1200, 1500, 2000]) {
        const child = spawn(process.execPath, [APAR, 'serve', '--model', 'demo', '--port', '0'], {
          env,
          stdio: 'ignore',
        })
        await sleep(delay)
        child.kill('SIGKILL')
        await once(child, 'exit')
        await vi.waitFor(() => expect({ delay, left: processesWith(mark) }).toEqual({ delay, left: [] }), {
          timeout: 15_000,
          interval: 100,
        })
      }
    },
  )

  test('leaves no processes running when it is killed', { timeout: 120_000 }, async () => {
    const { url, process } = await serve()
    process.kill('SIGKILL')
    await once(process, 'exit')
    await untilNothingListens(url)
  })
})

/** Ids of the processes whose environment has this entry. */
function processesWith(entry: string): number[] {
  return readdirSync('/proc')
    .map(Number)
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/environ`, 'latin1').split('\0').includes(entry)
      } catch {
        return false
      }
    })
}
