import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { packageRoot } from '../gpu-node/package-root.ts'
import { bytesBelow, installPackage } from './footprint/installed-package.ts'
import { withServe } from './load/serve-first-token.ts'
import { type Bench, type BenchCase, commit, machine, median, SampleFile } from './report.ts'

const STARTS = 9
const QUICK_STARTS = 3
const KB = 1000
const MIB = 2 ** 20

/** What a user downloads and installs, and how long the installed server takes to start with the demo model. */
export const footprint: Bench = async ({ quick }) => {
  const file = new SampleFile('footprint')
  const installed = await installPackage()
  try {
    const sizes = [
      { case: 'client, gzip', bytes: clientBytes(), unit: 'KB', goal: 20 },
      { case: 'chat page, gzip', bytes: gzipped(pageFiles()), unit: 'KB', goal: 120 },
      { case: "edge's worker, gzip", bytes: gzipped(['dist/edge/worker.js']), unit: 'MiB', goal: 1 },
      {
        ...{ case: 'installed, workerd, engine and models included', unit: 'MiB', goal: 150 },
        bytes: bytesBelow(join(installed.folder, 'node_modules')),
      },
    ]
    for (const sample of sizes) file.add({ bench: 'footprint', ...sample })
    const starts: number[] = []
    for (let turn = 0; turn < (quick ? QUICK_STARTS : STARTS); turn++) {
      const begun = performance.now()
      const args = ['--model', 'demo']
      const ms = await withServe(args, async () => performance.now() - begun, installed.script)
      file.add({ bench: 'footprint', case: 'start to ready', turn, ms })
      starts.push(ms)
    }
    const cases: BenchCase[] = [
      ...sizes.map(({ bytes, unit, ...rest }) => ({
        ...{ ...rest, unit, better: 'lower' as const },
        value: Math.round((bytes / (unit === 'KB' ? KB : MIB)) * 100) / 100,
      })),
      {
        ...{ case: 'demo: start of serve to ready', unit: 'ms', better: 'lower', goal: null },
        value: Math.round(median(starts)),
        low: Math.round(Math.min(...starts)),
        high: Math.round(Math.max(...starts)),
      },
    ]
    return { bench: 'footprint', commit: commit(), machine: machine(), samples: file.path, cases }
  } finally {
    installed.remove()
  }
}

function pageFiles(): string[] {
  return readdirSync(join(packageRoot, 'dist/web')).map((name) => `dist/web/${name}`)
}

/** Each file by itself, as the browser gets it. */
function gzipped(files: readonly string[]): number {
  return files.reduce((sum, file) => sum + gzipSync(readFileSync(join(packageRoot, file))).length, 0)
}

function clientBytes(): number {
  execFileSync(process.execPath, [join(packageRoot, 'client/build.mjs')], { stdio: ['ignore', 2, 2] })
  return gzipped(['client/dist/index.js'])
}
