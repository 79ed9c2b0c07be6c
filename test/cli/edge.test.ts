import { type ChildProcessByStdio, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { promisify } from 'node:util'
import { afterEach, describe, expect, test } from 'vitest'
import { packageRoot } from '../../gpu-node/package-root.ts'
import { requires } from '../support/requires.ts'

const APAR = join(packageRoot, 'dist/apar.js')
const WORKER = join(packageRoot, 'dist/edge/worker.js')
const isBuilt = requires('dist/apar.js (npm run setup)', () => existsSync(APAR) && existsSync(WORKER))

type Edge = ChildProcessByStdio<null, Readable, Readable>

let child: Edge | undefined
afterEach(() => child?.kill('SIGKILL'))

/** Starts `apar edge` with these variables and no others of its own. */
function startEdge(env: Record<string, string>, ...args: string[]): Edge {
  const { NODE_SECRET: _, APAR_ADMIN_KEY: __, ...rest } = process.env
  const edge = spawn(process.execPath, [APAR, 'edge', '--port', '0', ...args], {
    env: { ...rest, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  child = edge
  return edge
}

async function urlOf(edge: Edge): Promise<string> {
  return /^the edge listens at (http:\S+)$/.exec(await firstLine(edge.stdout))?.[1] ?? ''
}

async function firstLine(from: Readable): Promise<string> {
  const [line] = await once(createInterface({ input: from }), 'line')
  return String(line)
}

describe.skipIf(!isBuilt)('apar edge', () => {
  test('makes keys, waits for gpu nodes, and ends on SIGTERM', async () => {
    const edge = startEdge({ NODE_SECRET: 'secret', APAR_ADMIN_KEY: 'admin', NODE_HOSTS: 'gpu.example.com' })
    const url = await urlOf(edge)
    const ask = (path: string, token: string, init: RequestInit = {}) =>
      fetch(`${url}${path}`, {
        ...init,
        headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
      })
    const body = JSON.stringify({ id: 'team' })
    const { key } = (await (await ask('/admin/v1/keys', 'admin', { method: 'POST', body })).json()) as {
      key: string
    }
    // The variables of the Worker reach it: nodes may be at this host, at others not.
    const register = (id: string, host: string) =>
      ask(`/internal/v1/nodes/${id}`, 'secret', {
        method: 'PUT',
        body: JSON.stringify({
          url: `ws://${host}:8000`,
          models: [{ id: 'mine', created: 1, context_tokens: 512 }],
          capacity: { branches: 8, blocks: 100 },
          load: { running: 0, waiting: 0, free_blocks: 100 },
        }),
      })
    expect((await register('a', 'other.example.com')).status).toBe(403)
    expect((await register('b', 'gpu.example.com')).status).toBe(200)
    expect(await (await ask('/v1/models', key)).json()).toMatchObject({ data: [{ id: 'mine' }] })
    edge.kill('SIGTERM')
    expect(await once(edge, 'exit')).toEqual([0, null])
  })

  test('says what to do when what is stored cannot be read', async () => {
    const state = mkdtempSync(join(tmpdir(), 'apar-damaged-'))
    mkdirSync(join(state, 'apar-KeyStore'))
    writeFileSync(join(state, 'apar-KeyStore/metadata.sqlite'), 'no database '.repeat(1000))
    const edge = startEdge({ NODE_SECRET: 'secret', APAR_ADMIN_KEY: 'admin' }, '--state', state)
    const [said, [code]] = await Promise.all([text(edge.stderr), once(edge, 'exit')])
    expect(code).toBe(1)
    expect(said).toMatch(/^apar: .* in \S*apar-damaged-\S* cannot be read: .*--state \(edge_failed\)$/m)
    expect(said).not.toMatch(/^apar: .*stack:/m)
    rmSync(state, { recursive: true })
  })

  test.each([
    ['unless told otherwise', [], [], 200],
    ['but for none of the days of --response-days 0', ['--response-days', '0'], [], 400],
    ['but none for a key with --stored-responses 0', [], ['--stored-responses', '0'], 400],
  ])('stores responses, %s', async (_, ofEdge, ofKey, status) => {
    const url = await urlOf(startEdge({ NODE_SECRET: 'secret', APAR_ADMIN_KEY: 'admin' }, ...ofEdge))
    const create = ['keys', 'create', '--url', url, '--admin-key', 'admin', ...ofKey]
    const { stdout } = await promisify(execFile)(process.execPath, [APAR, ...create])
    // One in the background has to be stored. It is accepted before a gpu node is asked.
    const response = await fetch(`${url}/v1/responses`, {
      method: 'POST',
      headers: { authorization: `Bearer ${stdout.trim()}`, 'content-type': 'application/json' },
      body: JSON.stringify({ model: 'demo', input: 'hi', background: true }),
    })
    expect([response.status, await response.text()]).toEqual([
      status,
      expect.stringContaining(status === 200 ? '"status":"queued"' : 'no responses are stored for this key'),
    ])
  })

  test.each([
    ['NODE_SECRET', { APAR_ADMIN_KEY: 'admin' }],
    ['APAR_ADMIN_KEY', { NODE_SECRET: 'secret' }],
  ])('needs %s', async (name, env) => {
    const edge = startEdge(env as Record<string, string>)
    const line = await firstLine(edge.stderr)
    expect(line).toMatch(new RegExp(`^apar: ${name} is not set: .* \\(missing_option\\)$`))
    expect(await once(edge, 'exit')).toEqual([1, null])
  })
})
