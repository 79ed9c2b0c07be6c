import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { z } from 'zod'
import { TRAINER_FOLDER } from '../../cli/train/environment/packages.ts'
import { estimateMemory } from '../../cli/train/estimate/memory.ts'
import { shapeOf } from '../../cli/train/estimate/parameters.ts'
import { hasTrainingPython, TRAINING_PYTHON } from '../support/training-python.ts'

/** docs/training.md promises it. */
const FACTOR = 2
const [FEW, MANY] = [64, 4096]

describe.skipIf(!hasTrainingPython)('the memory of a run', () => {
  const root = mkdtempSync(join(tmpdir(), 'apar-peak-'))
  afterAll(() => rmSync(root, { recursive: true }))

  function peak(name: string, tokens: number, options: string[]): number {
    const args = ['-W', 'ignore', '-m', 'tests.peak_memory', join(root, name), String(tokens), ...options]
    // Else glibc keeps what was freed, more with each size that it has seen.
    const env = { ...process.env, MALLOC_MMAP_THRESHOLD_: '131072', MALLOC_ARENA_MAX: '1' }
    const run = spawnSync(TRAINING_PYTHON, args, { cwd: TRAINER_FOLDER, env, encoding: 'utf8' })
    expect(run.status, run.stderr).toBe(0)
    return z.object({ peak: z.number() }).parse(JSON.parse(run.stdout.trim().split('\n').at(-1) ?? '')).peak
  }

  // In f32, in which no CPU is slow. The difference of two runs: what the libraries and the weights take is in both.
  test.each([
    ['kept', false],
    ['computed again', true],
  ])(
    'with activations that are %s grows as estimated',
    { timeout: 1_800_000 },
    (name, checkpointActivations) => {
      const options = ['--dtype', 'float32', ...(checkpointActivations ? ['--checkpoint-activations'] : [])]
      const grown = peak(`${name}-many`, MANY, options) - peak(`${name}-few`, FEW, options)
      const shape = shapeOf(join(root, `${name}-few`, 'data/model'))
      const how = {
        device: 'cpu',
        lora: undefined,
        layout: 'one',
        processes: 1,
        checkpointActivations,
        distills: false,
        valueBytes: 4,
      } as const
      const bytes = (packTokens: number) => estimateMemory(shape, { ...how, packTokens }).total
      const ratio = grown / (bytes(MANY) - bytes(FEW))
      expect(ratio).toBeGreaterThan(1 / FACTOR)
      expect(ratio).toBeLessThan(FACTOR)
    },
  )
})
