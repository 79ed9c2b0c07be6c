import { spawn } from 'node:child_process'
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { whileBuilding } from '../../../cli/data/lock-build.ts'
import { processIdentity } from '../../../cli/lock/process-identity.ts'

let root: string

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'apar-lock-build-'))
})

afterEach(() => rmSync(root, { recursive: true }))

test('one process at a time builds into a folder', async () => {
  const out = join(root, 'new/data')
  const inner = whileBuilding(out, () => whileBuilding(out, async () => 'never'))
  await expect(inner).rejects.toMatchObject({ code: 'build_in_use' })
  expect(await whileBuilding(out, () => whileBuilding(`${out}2`, async () => 'done'))).toBe('done')
  expect(readdirSync(join(root, 'new'))).toEqual([])
})

test('the lock of a process that lives is respected, that of a dead one is taken over', async () => {
  const child = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)'])
  const { pid, space, birth } = processIdentity(child.pid ?? 0)
  writeFileSync(join(root, `.data.building-${pid}-${space}-${birth}.lock`), '')
  const build = () => whileBuilding(join(root, 'data'), async () => 'done')
  await expect(build()).rejects.toThrow(`is being built by process ${pid}: wait for it`)
  const ended = new Promise((resolve) => child.once('exit', resolve))
  child.kill('SIGKILL')
  await ended
  expect(await build()).toBe('done')
  expect(readdirSync(root)).toEqual([])
})
