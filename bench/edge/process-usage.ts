import { readdirSync, readFileSync } from 'node:fs'
import { median } from '../report.ts'

const PAGE_BYTES = 4096

/** Resources of some processes at one moment. */
export interface ProcessUsage {
  readonly rssMiB: number
  /** Open files and sockets. */
  readonly handles: number
}

/** Linux only. @throws Error when one of the processes has ended. */
export function processUsage(pids: readonly number[]): ProcessUsage {
  let [pages, handles] = [0, 0]
  for (const pid of pids) {
    pages += Number(readFileSync(`/proc/${pid}/statm`, 'utf8').split(' ')[1])
    handles += readdirSync(`/proc/${pid}/fd`).length
  }
  return { rssMiB: (pages * PAGE_BYTES) / 2 ** 20, handles }
}

/** Growth in per cent that counts as flat: memory of processes under constant load varies by about as much. */
export const FLAT_PERCENT = 10

/**
 * Growth of the median from the second to the last quarter of the samples, in per cent; negative when it shrank.
 * The first quarter is ignored, because caches and heaps still fill.
 */
export function growthPercent(samples: readonly number[]): number {
  const quarter = Math.max(1, Math.floor(samples.length / 4))
  const [before, after] = [median(samples.slice(quarter, 2 * quarter)), median(samples.slice(-quarter))]
  return (after / before - 1) * 100
}
