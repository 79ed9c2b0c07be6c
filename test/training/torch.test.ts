import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { hasTrainingPython, TRAINING_PYTHON } from '../support/training-python.ts'

const cwd = fileURLToPath(new URL('../../training/torch', import.meta.url))

describe.skipIf(!hasTrainingPython)('training/torch', () => {
  it('passes its own tests', { timeout: 600_000 }, () => {
    const env = { ...process.env, OMP_NUM_THREADS: '1' }
    const args = ['-m', 'unittest', 'discover', '-s', 'tests', '-t', '.']
    const run = spawnSync(TRAINING_PYTHON, args, { cwd, env, encoding: 'utf8' })
    expect(run.status, run.stderr).toBe(0)
    expect(run.stderr).toMatch(/Ran \d{2,} tests/)
  })
})
