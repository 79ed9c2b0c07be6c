import { execFileSync } from 'node:child_process'
import { appendFileSync, mkdtempSync, rmdirSync, unlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { newApiKey } from '../../cli/keys.ts'
import { requires } from '../support/requires.ts'
import { ADMIN_KEY, freeKey, type ScriptedEdge, startScriptedEdge } from './scripted-edge.ts'

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

/** Of the answers while the disk is full, by what was asked. */
type Statuses = Record<string, Set<string>>

describe.skipIf(!requires('the right to mount a small file system', mounted))('a full disk', () => {
  const limited = newApiKey('limited', 100_000)
  const free = freeKey()
  const filler = join(folder, 'filler')
  let edge: ScriptedEdge

  beforeAll(async () => {
    edge = await startScriptedEdge(join(folder, 'state'), [limited.record, free.record])
  })

  afterAll(async () => {
    await edge?.close()
    execFileSync('umount', [folder])
    rmdirSync(folder)
  })

  function fill(): void {
    try {
      for (;;) appendFileSync(filler, Buffer.alloc(4096))
    } catch (error) {
      expect(error).toMatchObject({ code: 'ENOSPC' })
    }
  }

  const chat = (key: string) => edge.chat(key)
  const resumable = (key: string) => edge.chat(key, { stream: true, apar: { resumable: true } })
  const newKey = () => edge.ask('POST', '/admin/v1/keys', ADMIN_KEY, {})
  const ticket = () => edge.ask('POST', '/v1/tickets', free.key)

  it('lets go on what needs no state, refuses the rest with one code, and is over when there is space', async () => {
    for (const good of [chat(limited.key), chat(free.key), resumable(free.key), newKey(), ticket()])
      expect(await good).toMatch(/^20[01]$/)
    // What was counted is stored.
    await sleep(1_500)
    const seen: Statuses = {}
    const see = async (what: string, asked: Promise<string>) => {
      seen[what] ??= new Set()
      seen[what].add(await asked)
    }
    for (let round = 0; round < 40; round++) {
      // Again each time: an object that was aborted frees the space of its write-ahead log.
      fill()
      await see('limited', chat(limited.key))
      await see('free', chat(free.key))
      await see('resumable', resumable(free.key))
      await see('healthz', edge.ask('GET', '/healthz', ''))
      await see('readyz', edge.ask('GET', '/readyz', ''))
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
