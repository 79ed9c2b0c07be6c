import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { requires } from '../support/requires.ts'

const PYTHON = process.env.APAR_PYTHON ?? '/usr/bin/python3'
const cwd = fileURLToPath(new URL('../../training/torch', import.meta.url))

const found = requires(`PyTorch for ${PYTHON} (Debian package python3-torch)`, () => {
  const { status, error, stderr } = spawnSync(PYTHON, ['-c', 'import numpy, torch'], { encoding: 'utf8' })
  if (error) throw error
  if (status !== 0) throw new Error(stderr.trim().split('\n').at(-1))
  return true
})

describe.skipIf(!found)('training/torch', () => {
  it('passes its own tests', { timeout: 120_000 }, () => {
    const env = { ...process.env, OMP_NUM_THREADS: '1' }
    const run = spawnSync(PYTHON, ['-m', 'unittest', 'discover', '-s', 'tests', '-t', '.'], {
      cwd,
      env,
      encoding: 'utf8',
    })
    expect(run.status, run.stderr).toBe(0)
  })
})
