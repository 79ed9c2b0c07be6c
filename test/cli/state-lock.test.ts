import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { build } from 'esbuild'
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest'
import { lockState } from '../../cli/local/state-lock.ts'
import { processIdentity } from '../../cli/lock/process-identity.ts'

let scratch: string
let script: string
let folder: string
const children: ChildProcess[] = []

/** Takes the folder, says so in a file, holds it for a moment (or for ever), and releases it. */
const HOLDER = `
import { appendFileSync } from 'node:fs'
import { lockState } from './cli/local/state-lock.ts'
const [folder, journal, ms] = process.argv.slice(2)
try {
  const lock = await lockState(folder)
  appendFileSync(journal, 'in ' + process.pid + '\\n')
  process.stdout.write('held')
  setTimeout(() => {
    appendFileSync(journal, 'out ' + process.pid + '\\n')
    lock.release()
  }, Number(ms))
} catch (error) {
  appendFileSync(journal, error.code + ' ' + process.pid + '\\n')
}
`

beforeAll(async () => {
  scratch = mkdtempSync(join(tmpdir(), 'apar-lock-'))
  script = join(scratch, 'holder.mjs')
  const stdin = { contents: HOLDER, resolveDir: process.cwd(), loader: 'ts' as const }
  await build({ stdin, outfile: script, bundle: true, platform: 'node', format: 'esm', logLevel: 'error' })
})

beforeEach(() => {
  folder = mkdtempSync(join(scratch, 'state-'))
})

afterAll(() => {
  for (const child of children) child.kill('SIGKILL')
  rmSync(scratch, { recursive: true, force: true })
})

function hold(journal: string, ms: number): ChildProcess {
  const child = spawn(process.execPath, [script, folder, journal, String(ms)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  children.push(child)
  return child
}

const locks = () => readdirSync(folder).filter((name) => name.endsWith('.lock'))
const claimOf = ({ pid, space, birth } = processIdentity(process.pid)) =>
  `serve-${pid}-${space}-${birth}.lock`

it('is held by one process, and released at its end', async () => {
  const journal = join(scratch, 'one')
  const child = hold(journal, 100_000)
  await once(child.stdout ?? child, 'data')
  await expect(lockState(folder)).rejects.toMatchObject({
    code: 'state_taken',
    message: expect.stringContaining(`in use by process ${child.pid}:`),
  })
  expect(locks()).toHaveLength(1)
  child.kill('SIGKILL')
  await once(child, 'exit')
  const lock = await lockState(folder)
  expect(locks()).toEqual([claimOf()])
  await expect(lockState(folder)).rejects.toMatchObject({ code: 'state_taken' })
  lock.release()
  expect(locks()).toEqual([])
})

it('is never held by two processes that start at the same time', async () => {
  const journal = join(scratch, 'race')
  const racing = Array.from({ length: 8 }, () => hold(journal, 150))
  await Promise.all(racing.map((child) => once(child, 'exit')))
  const lines = readFileSync(journal, 'utf8').trim().split('\n')
  expect(lines).toHaveLength(lines.filter((line) => line.startsWith('in ')).length + 8)
  let holder: string | undefined
  for (const [what, pid] of lines.map((line) => line.split(' '))) {
    if (what === 'in') {
      expect(holder).toBeUndefined()
      holder = pid
    } else if (what === 'out') {
      expect(holder).toBe(pid)
      holder = undefined
    } else {
      expect(what).toBe('state_taken')
    }
  }
  expect(lines.some((line) => line.startsWith('in '))).toBe(true)
  expect(locks()).toEqual([])
})

it('is held as long as an added process lives', async () => {
  const other = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)'])
  children.push(other)
  const lock = await lockState(folder)
  lock.add(other.pid ?? 0)
  // As if this process had been killed.
  rmSync(join(folder, claimOf()))
  await expect(lockState(folder)).rejects.toThrow(`in use by process ${other.pid}:`)
  other.kill('SIGKILL')
  await once(other, 'exit')
  const next = await lockState(folder)
  next.release()
  lock.release()
})

it('is taken over from a process whose pid another process has now', async () => {
  const { pid, space } = processIdentity(process.ppid)
  writeFileSync(join(folder, claimOf({ pid, space, birth: 'abc' })), '')
  const lock = await lockState(folder)
  expect(locks()).toEqual([claimOf()])
  lock.release()
})

it('is taken over from a process of another container when that has not been seen for a while', async () => {
  const claim = join(folder, claimOf({ pid: 1, space: 'fff', birth: 'abc' }))
  writeFileSync(claim, '')
  await expect(lockState(folder)).rejects.toMatchObject({ code: 'state_taken' })
  utimesSync(claim, new Date(Date.now() - 30_000), new Date(Date.now() - 30_000))
  const lock = await lockState(folder)
  expect(locks()).toEqual([claimOf()])
  lock.release()
})
