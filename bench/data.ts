import { spawn } from 'node:child_process'
import { mkdtemp, readFile, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { knownModels } from '../cli/models/known.ts'
import { knownPath } from '../cli/models/resolve.ts'
import { packageRoot } from '../gpu-node/package-root.ts'
import { writeSyntheticConversations } from './data/synthetic-conversations.ts'
import { type BenchCase, type BenchOptions, type BenchResult, commit, machine, SampleFile } from './report.ts'

const BYTES = 112_000_000
const QUICK_BYTES = 11_200_000
const GOAL_SECONDS = 60
const GOAL_BYTES = 512 * 2 ** 20
const POLL_MS = 50

/** Builds whose speed is measured: shards of a published model, when it is on this machine, and of the demo model. */
const MODELS: readonly { name: string; options: () => string[] | undefined }[] = [
  {
    name: 'smollm2-135m-instruct',
    options: () => {
      const known = knownModels().get('smollm2-135m-instruct')
      const path = known && knownPath('smollm2-135m-instruct', known)
      return path === undefined ? undefined : ['--model', path]
    },
  },
  { name: 'the demo model', options: () => ['--tokenizer', join(packageRoot, 'models/demo/tokenizer.json')] },
]

/**
 * Measures `apar data build` with two threads on a ShareGPT array made for it: seconds, and the memory that the process
 * had at most. The floor is reading the file and parsing it as JSON.
 */
export async function data({ quick }: BenchOptions): Promise<BenchResult> {
  const file = new SampleFile('data')
  const folder = await mkdtemp(join(tmpdir(), 'apar-bench-data-'))
  const cases: BenchCase[] = []
  try {
    const input = join(folder, 'conversations.json')
    const count = await writeSyntheticConversations(input, quick ? QUICK_BYTES : BYTES)
    const { size } = await stat(input)
    console.error(`data: ${count} conversations, ${(size / 1e6).toFixed(0)} MB`)
    for (const { name, options } of MODELS) {
      const model = options()
      if (!model) {
        console.error(`data: ${name} is not on this machine: get it with apar model pull`)
        continue
      }
      const floor = await secondsToParse(input)
      const run = await measuredBuild([input, ...model, '--out', join(folder, 'out')])
      console.error(`data: ${name}: ${run.seconds.toFixed(1)} s, ${(run.peakBytes / 2 ** 20).toFixed(0)} MiB`)
      file.add({ bench: 'data', case: name, bytes: size, floor, ...run })
      const speed = round(size / 1e6 / run.seconds)
      // The goals are for the whole input.
      const goal = (value: number) => (quick ? null : value)
      cases.push(
        {
          ...{
            case: `${name}: build of ${(size / 1e6).toFixed(0)} MB`,
            value: round(run.seconds),
            unit: 's',
          },
          ...{
            better: 'lower',
            goal: goal(GOAL_SECONDS),
            floor: round(floor),
            ofFloor: round(run.seconds / floor),
          },
        },
        { case: `${name}: CPU time`, value: round(run.cpuSeconds), unit: 's', better: 'lower', goal: null },
        { case: `${name}: input per second`, value: speed, unit: 'MB/s', better: 'higher', goal: null },
        {
          ...{ case: `${name}: peak memory`, value: round(run.peakBytes / 2 ** 20), unit: 'MiB' },
          ...{ better: 'lower', goal: goal(GOAL_BYTES / 2 ** 20) },
        },
      )
    }
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
  return { bench: 'data', commit: commit(), machine: machine(), samples: file.path, cases }
}

async function secondsToParse(path: string): Promise<number> {
  const begun = performance.now()
  JSON.parse(await readFile(path, 'utf8'))
  return (performance.now() - begun) / 1000
}

interface Run {
  seconds: number
  /** Of all threads together: what is left of the figure on a busy machine. */
  cpuSeconds: number
  peakBytes: number
}

/** @throws Error when the build fails. */
async function measuredBuild(args: readonly string[]): Promise<Run> {
  const begun = performance.now()
  const child = spawn(process.execPath, [join(packageRoot, 'dist/apar.js'), 'data', 'build', ...args], {
    stdio: ['ignore', 'ignore', 'inherit'],
  })
  let [peakBytes, cpuSeconds] = [0, 0]
  const poll = setInterval(async () => {
    peakBytes = Math.max(peakBytes, await peakMemory(child.pid))
    cpuSeconds = Math.max(cpuSeconds, await cpuTime(child.pid))
  }, POLL_MS)
  try {
    const code = await new Promise((resolve, reject) => child.on('close', resolve).on('error', reject))
    if (code !== 0) throw new Error(`apar data build ended with ${code}`)
    return { seconds: (performance.now() - begun) / 1000, cpuSeconds, peakBytes }
  } finally {
    clearInterval(poll)
  }
}

/** The kernel's own high-water mark; 0 where there is none. */
async function peakMemory(pid: number | undefined): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '')
  return Number(/^VmHWM:\s*(\d+) kB/m.exec(status)?.[1] ?? 0) * 1024
}

/** Of Linux' clock ticks, which are hundredths of a second; 0 where there is no such file. */
async function cpuTime(pid: number | undefined): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '')
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return (Number(fields[11] ?? 0) + Number(fields[12] ?? 0)) / 100
}

function round(value: number): number {
  return Number(value.toPrecision(4))
}
