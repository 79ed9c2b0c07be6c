import { execFile } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterAll, expect, test } from 'vitest'

const REPORTER = join(import.meta.dirname, 'support/unfinished-reporter.ts')
const VITEST = join(dirname(createRequire(import.meta.url).resolve('vitest/package.json')), 'vitest.mjs')

const folder = mkdtempSync(join(tmpdir(), 'apar-unfinished-'))
afterAll(() => rmSync(folder, { recursive: true }))

/** What a run of these files writes. */
async function runTests(files: Readonly<Record<string, string>>): Promise<string> {
  for (const [name, source] of Object.entries(files)) writeFileSync(join(folder, name), source)
  const args = [VITEST, 'run', '--globals', '--root', folder, '--pool=forks', '--reporter', REPORTER]
  return await new Promise((resolve) => {
    execFile(process.execPath, args, { cwd: folder }, (_error, stdout, stderr) => resolve(stdout + stderr))
  })
}

test('a run names the files and the tests that a lost worker has left, and how it ended', async () => {
  const output = await runTests({
    'good.test.mjs': "test('passes', () => {})",
    'lost.test.mjs':
      "test('passes', () => {}); test('is lost', async () => {\n" +
      "  process.kill(process.pid, 'SIGSEGV'); await new Promise(() => {})\n})",
  })
  expect(output.match(/^A worker has ended: .*$/gm)).toEqual(['A worker has ended: SIGSEGV'])
  expect(output.match(/^Not finished: .*$/gm)).toEqual(['Not finished: lost.test.mjs'])
  expect(output).toContain('\n  is lost\n')
})
