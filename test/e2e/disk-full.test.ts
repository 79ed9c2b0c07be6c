import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmdirSync, unlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { newApiKey, newNodeSecret } from '../../cli/keys.ts'
import { type LocalEdge, startLocalEdge } from '../../cli/local/edge.ts'
import { startFakeNode } from '../edge-node/fake-node.ts'
import { requires } from '../support/requires.ts'

const folder = mkdtempSync(join(tmpdir(), 'apar-small-disk-'))

function mounted(): boolean {
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=4m', 'tmpfs', folder], { stdio: 'ignore' })
    return true
  } catch {
    rmdirSync(folder)
    return false
  }
}

const answer = [
  { type: 'accepted', version: 1, model: 'demo', joints: 'kept', created: 1_700_000_000 },
  { type: 'delta', branch: 0, text: 'Hello' },
  { type: 'branch_end', branch: 0, reason: 'stop' },
  {
    type: 'done',
    reason: 'stop',
    usage: {
      prompt_tokens: 5,
      cached_prompt_tokens: 0,
      completion_tokens: 7,
      total_tokens: 12,
      branches: [],
    },
  },
]

/** Of the answers while the disk is full, by what was asked. */
type Statuses = Record<string, Set<string>>

describe.skipIf(!requires('the right to mount a small file system', mounted))('a full disk', () => {
  const nodeSecret = newNodeSecret()
  const limited = newApiKey('limited', 100_000)
  const free = newApiKey('free', 1)
  const filler = join(folder, 'filler')
  let edge: LocalEdge
  let node: Awaited<ReturnType<typeof startFakeNode>>
  let heartbeats: ReturnType<typeof setInterval>

  beforeAll(async () => {
    node = await startFakeNode(nodeSecret)
    edge = await startLocalEdge({
      host: '127.0.0.1',
      port: 0,
      apiKeys: [limited.record, { ...free.record, limits: {} }],
      nodeSecret,
      settings: { ADMIN_KEY: 'admin', LOG_LEVEL: 'silent' },
      stateDir: join(folder, 'state'),
    })
    const beat = async () => {
      const heartbeat = {
        url: node.url,
        models: [{ id: 'demo', created: 1_700_000_000, context_tokens: 512 }],
        capacity: { branches: 8, blocks: 100 },
        load: { running: 0, waiting: 0, free_blocks: Math.floor(Math.random() * 100) },
      }
      await ask('PUT', '/internal/v1/nodes/a', nodeSecret, heartbeat)
    }
    await beat()
    heartbeats = setInterval(() => void beat().catch(() => {}), 1000)
  })

  afterAll(async () => {
    clearInterval(heartbeats)
    await edge?.close()
    node?.close()
    execFileSync('umount', [folder])
    rmdirSync(folder)
  })

  async function ask(method: string, path: string, key: string, json?: unknown): Promise<string> {
    const body = json === undefined ? null : JSON.stringify(json)
    const headers = { authorization: `Bearer ${key}`, 'content-type': 'application/json' }
    const response = await fetch(edge.url + path, { method, headers, body })
    const text = await response.text()
    const code = response.ok ? '' : ` ${(JSON.parse(text) as { error?: { code: string } }).error?.code}`
    return `${response.status}${code}`
  }

  const chat = (key: string, more: object = {}) =>
    ask('POST', '/v1/chat/completions', key, {
      model: 'demo',
      messages: [{ role: 'user', content: JSON.stringify(answer) }],
      ...more,
    })
  const resumable = (key: string) => chat(key, { stream: true, apar: { resumable: true } })
  const newKey = () => ask('POST', '/admin/v1/keys', 'admin', {})
  const ticket = () => ask('POST', '/v1/tickets', free.key)

  it('lets go on what needs no state, refuses the rest with one code, and is over when there is space', async () => {
    for (const good of [chat(limited.key), chat(free.key), resumable(free.key), newKey(), ticket()])
      expect(await good).toMatch(/^20[01]$/)
    // What was counted is stored.
    await sleep(1_500)
    try {
      writeFileSync(filler, Buffer.alloc(8 * 2 ** 20))
    } catch (error) {
      expect(error).toMatchObject({ code: 'ENOSPC' })
    }
    const seen: Statuses = {}
    const see = async (what: string, asked: Promise<string>) => {
      seen[what] ??= new Set()
      seen[what].add(await asked)
    }
    for (let round = 0; round < 40; round++) {
      await see('limited', chat(limited.key))
      await see('free', chat(free.key))
      await see('resumable', resumable(free.key))
      await see('healthz', ask('GET', '/healthz', ''))
      await see('readyz', ask('GET', '/readyz', ''))
      if (round % 10 === 9) {
        await see('ticket', ticket())
        await see('new key', newKey())
      }
      await sleep(100)
    }
    const statuses = Object.fromEntries(Object.entries(seen).map(([what, codes]) => [what, [...codes]]))
    const refused = '503 storage_unavailable'
    expect(statuses).toMatchObject({
      healthz: ['200'],
      readyz: ['200'],
      ticket: [refused],
      'new key': [refused],
    })
    expect(statuses.limited).toContain(refused)
    for (const codes of Object.values(statuses)) {
      for (const code of codes) expect(['200', refused]).toContain(code)
    }
    unlinkSync(filler)
    await vi.waitFor(async () => expect(await chat(limited.key)).toBe('200'), { timeout: 20_000 })
    for (const good of [chat(limited.key), chat(free.key), resumable(free.key), newKey(), ticket()])
      expect(await good).toMatch(/^20[01]$/)
  })
})
