import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { packageRoot } from '../../gpu-node/package-root.ts'
import { never, type Scenario } from './scenario.ts'

const TEST = 'never reserves more streams or tokens than allowed, and leaks none'

/** Runs the race test of test/edge/key-limits.test.ts, which runs inside workerd, with this many races. */
export const limits: Scenario = async ({ size, log }) => {
  const folder = mkdtempSync(join(tmpdir(), 'apar-races-'))
  try {
    const outputFile = join(folder, 'report.json')
    const vitest = join(packageRoot, 'node_modules/vitest/vitest.mjs')
    const test = ['run', 'test/edge/key-limits.test.ts', '-t', TEST]
    const child = spawn(
      process.execPath,
      [vitest, ...test, '--reporter=json', `--outputFile=${outputFile}`],
      { cwd: packageRoot, env: { ...process.env, APAR_RACES: String(size) }, stdio: 'ignore' },
    )
    await once(child, 'close')
    const report: { numPassedTests: number; numFailedTests: number } = JSON.parse(
      readFileSync(outputFile, 'utf8'),
    )
    if (report.numPassedTests + report.numFailedTests !== 1) throw new Error('the race was not run')
    log(`${size} races run`)
    const name = `${size} races on one key's limits: over a limit, or a slot leaked`
    return [never(name, report.numFailedTests, 'runs')]
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}
