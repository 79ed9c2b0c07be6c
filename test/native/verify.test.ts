import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, describe, expect, it } from 'vitest'
import { hasTrainingPython, TRAINING_PYTHON } from '../support/training-python.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))
const gpu = join(root, 'native/gpu')

function python(args: string[], variables = {}) {
  return spawnSync(TRAINING_PYTHON, args, {
    cwd: gpu,
    encoding: 'utf8',
    env: { ...process.env, ...variables },
  })
}

interface Line {
  part: string
  case: string
  result?: string
  why?: string
}

describe.skipIf(!hasTrainingPython)('native/gpu/verify', () => {
  const out = mkdtempSync(join(tmpdir(), 'apar-verify-'))
  afterAll(() => rmSync(out, { recursive: true }))

  it('with fake programs: reports failures, hangs, crashes and missing programs, and continues', {
    timeout: 300_000,
  }, () => {
    const run = python(['-m', 'unittest', 'discover', '-s', 'tests', '-t', '.'])
    expect(run.status, run.stderr).toBe(0)
    expect(run.stderr).toMatch(/Ran \d{2,} tests/)
  })

  // Uses the programs that `npm test` has built, of whose cases ctest runs all.
  it.each([
    ['1', ['floors', 'steps_wgmma', 'attention']],
    ['2', ['red', 'kernels', 'cublaslt_speed', 'ranks', 'sanitize']],
  ])('phase %s without a GPU: runs all parts that need none', { timeout: 900_000 }, (phase, skippedParts) => {
    const args = ['verify', phase, '--device', 'cpu', '--build-dir', join(root, 'native/build/release')]
    const run = python([...args, '--out', out], { APAR_VERIFY_CASES: '2' })
    const lines = readFileSync(join(out, `phase-${phase}.jsonl`), 'utf8')
      .trimEnd()
      .split('\n')
      .map((text): Line => JSON.parse(text))
    expect(run.status, run.stdout.slice(-4000)).toBe(0)
    const skipped = lines.filter((line) => line.case === 'end' && line.result === 'skipped')
    expect(skipped.map((line) => line.part)).toEqual(skippedParts)
    for (const line of skipped) expect(line.why).toBeTruthy()
  })

  it('docs/results/gpu-template.md is the output of native/gpu/report without results', () => {
    const run = python(['report', '--empty'])
    expect(run.stdout).toBe(readFileSync(join(root, 'docs/results/gpu-template.md'), 'utf8'))
  })
})
