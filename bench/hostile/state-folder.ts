import { readdirSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { percentile } from '../../cli/bench/percentile.ts'
import { startPacedStack } from '../edge/paced-stack.ts'
import { readOverEdge } from '../edge/stream-readers.ts'
import type { BenchCase, SampleFile } from '../report.ts'

const AT_A_TIME = 32
const STEP_MS = 2
/** At most this long, in the full size: a slow machine runs fewer streams, and the case's name says how many. */
const MOST_SECONDS = 540
/** Objects without requests are evicted after 10 s, and records of streams are cleared away within 2 min. */
const GRACE_SECONDS = { quick: 13, full: 150 }
const KEYS = 1
const GOAL_BYTES = 2 ** 20 + KEYS * 4096

/** Many short streams that could be resumed: what remains of them in the state folder. */
export async function stateFolder(quick: boolean, file: SampleFile): Promise<BenchCase[]> {
  // Not on a RAM disk, where a folder's size shrinks with its entries.
  const stack = await startPacedStack(STEP_MS, tmpdir())
  try {
    const wanted = quick ? 300 : 100_000
    const begun = performance.now()
    const seconds = () => (performance.now() - begun) / 1000
    const times: number[] = []
    let most = 0
    let started = 0
    const client = async () => {
      while (started < wanted && seconds() < MOST_SECONDS) {
        const seed = ++started
        const late = await readOverEdge(stack, { seed, branches: 1, maxTokens: 2 })
        times.push(late[0] ?? Number.NaN)
        if (seed % 1000 === 0) most = Math.max(most, bytesIn(stack.stateDir))
      }
    }
    await Promise.all(Array.from({ length: AT_A_TIME }, client))
    const rate = started / seconds()
    const after = bytesIn(stack.stateDir)
    await sleep((quick ? GRACE_SECONDS.quick : GRACE_SECONDS.full) * 1000)
    const left = bytesIn(stack.stateDir)
    file.add({ bench: 'hostile', case: 'state folder', streams: started, rate, most, after, left })
    const name = `state folder, ${started} streams with ${KEYS} key`
    const row = (what: string, value: number, unit: string, goal: number | null) => {
      return { case: `${name}: ${what}`, value, unit, better: 'lower' as const, goal }
    }
    return [
      row('bytes after the grace time', left, 'bytes', GOAL_BYTES),
      row('most bytes meanwhile', Math.max(most, after), 'bytes', null),
      row('first token later than from the engine, p50', percentile(times, 50), 'ms', null),
      { ...row('streams per second', rate, 'streams/s', null), better: 'higher' },
    ]
  } finally {
    await stack.close()
  }
}

/** Sizes of all files and folders in a folder, and its own. */
export function bytesIn(folder: string): number {
  const paths = [
    folder,
    ...readdirSync(folder, { recursive: true }).map((name) => join(folder, String(name))),
  ]
  return paths.reduce((sum, path) => sum + (statSync(path, { throwIfNoEntry: false })?.size ?? 0), 0)
}
