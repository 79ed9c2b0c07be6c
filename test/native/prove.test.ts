import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { requires } from '../support/requires.ts'

const PYTHON = process.env.APAR_PYTHON ?? '/usr/bin/python3'
const cwd = fileURLToPath(new URL('../../native/gpu', import.meta.url))

const found = requires(`Python 3.11 (${PYTHON})`, () => {
  const { status, error } = spawnSync(PYTHON, ['-c', 'import sys; sys.exit(sys.version_info < (3, 11))'])
  if (error) throw error
  if (status !== 0) throw new Error('an older one')
  return true
})

describe.skipIf(!found)('native/gpu/prove', () => {
  it('ends what hangs, names what was not shown', { timeout: 60_000 }, () => {
    const run = spawnSync(PYTHON, ['-m', 'unittest', 'discover', '-s', 'tests', '-t', '.'], {
      cwd,
      encoding: 'utf8',
    })
    expect(run.status, run.stderr).toBe(0)
  })
})
