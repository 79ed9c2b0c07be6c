import { join } from 'node:path'
import { packageRoot } from '../gpu-node/package-root.ts'
import {
  type Bench,
  type BenchCase,
  type BenchOptions,
  commit,
  type ModelFlags,
  machine,
  SampleFile,
} from './report.ts'
import type { PartOptions } from './serving/part.ts'
import { concurrency } from './serving/parts/concurrency.ts'
import { deadline } from './serving/parts/deadline.ts'
import { demo } from './serving/parts/demo.ts'
import { inFlight } from './serving/parts/in-flight.ts'
import { lowLoad } from './serving/parts/low-load.ts'
import { recorder } from './serving/parts/recorder.ts'
import { saturation } from './serving/parts/saturation.ts'
import { openStand, type Stand } from './serving/stand.ts'

interface ReplayPart {
  /** Which it takes about, quick and otherwise. */
  readonly seconds: readonly [quick: number, full: number]
  readonly run: (stand: Stand, seconds: number, flags: ModelFlags) => Promise<BenchCase[]>
}

/** Replays of published answers, in the order in which they run. */
const REPLAYS: Readonly<Record<string, ReplayPart>> = {
  'low-load': { seconds: [45, 270], run: lowLoad },
  saturation: { seconds: [40, 270], run: saturation },
  concurrency: {
    seconds: [35, 240],
    run: (stand, seconds, flags) => concurrency(stand, seconds, flags.concurrency),
  },
  deadline: { seconds: [100, 510], run: deadline },
  recorder: { seconds: [35, 120], run: recorder },
}
/** Those that bring their own load. */
const OTHERS: Readonly<Record<string, (options: PartOptions) => Promise<BenchCase[]>>> = {
  'in-flight': inFlight,
  demo,
}

/**
 * What parallel decoding is worth under load: published answers of a model are replayed with and without branches, on random
 * weights of a model's shape, and each figure has its goal. `demo` asks the demo model through a whole server.
 */
export const serving: Bench = async ({ quick, parts, flags }) => {
  const names = [...Object.keys(REPLAYS), ...Object.keys(OTHERS)]
  const unknown = parts.find((name) => !names.includes(name))
  if (unknown !== undefined) throw new Error(`no part named ${unknown}; there are ${names.join(', ')}`)
  const wanted = (name: string) => parts.length === 0 || parts.includes(name)
  const file = new SampleFile('serving')
  const script = join(packageRoot, 'dist/apar.js')
  const cases: BenchCase[] = []
  const keep = (part: string, rows: readonly BenchCase[]) => {
    for (const row of rows) file.add({ bench: 'serving', part, type: 'case', ...row })
    cases.push(...rows)
  }
  const run = { bench: 'serving', type: 'run', parts, options: optionsOf({ quick, flags }) }
  const replays = Object.entries(REPLAYS).filter(([name]) => wanted(name))
  if (replays.length === 0) file.add(run)
  else {
    const stand = await openStand({ quick, file, script, flags })
    const { name: model, answers, pace } = stand
    file.add({ ...run, model, answers: answers.name, pace })
    for (const [name, { seconds, run }] of replays)
      keep(name, await run(stand, seconds[quick ? 0 : 1], flags))
  }
  for (const [name, run] of Object.entries(OTHERS))
    if (wanted(name)) keep(name, await run({ quick, file, script }))
  return { bench: 'serving', commit: commit(), machine: machine(), samples: file.path, cases }
}

/** Of the command that repeats the run. */
function optionsOf({ quick, flags }: Pick<BenchOptions, 'quick' | 'flags'>): string[] {
  const { model, device, dtype, concurrency } = flags
  const options = { model, device, dtype, concurrency: concurrency?.join(',') }
  return [
    ...(quick ? ['--quick'] : []),
    ...Object.entries(options).flatMap(([name, value]) => (value === undefined ? [] : [`--${name}`, value])),
    '--json',
  ]
}
