import { FLAT_PERCENT } from '../../bench/edge/process-usage.ts'
import type { BenchCase } from '../../bench/report.ts'

export interface ScenarioOptions {
  /** Drops, kills, evictions, races, inputs or seconds. */
  readonly size: number
  /** What is drawn at random follows from it, as far as the machine's timing lets it. */
  readonly seed: number
  /** A line of progress. */
  readonly say: (line: string) => void
  /** Keeps a raw sample. */
  readonly record: (sample: Record<string, unknown>) => void
}

/** Does harm, and counts what it cost. */
export type Scenario = (options: ScenarioOptions) => Promise<BenchCase[]>

/** Something that must not happen, and how often it did. */
export function never(name: string, value: number, unit: string): BenchCase {
  return { case: name, value, unit, better: 'lower', goal: 0 }
}

/** In less time caches and heaps still fill, and memory says nothing yet. */
const LONG_ENOUGH_S = 120

/** How memory grew over a run of so many seconds, of which a short one is only told. */
export function flat(name: string, percent: number, seconds: number): BenchCase {
  const goal = seconds < LONG_ENOUGH_S ? null : FLAT_PERCENT
  return { case: name, value: Number(percent.toPrecision(4)), unit: '%', better: 'lower', goal }
}

/** Said beside what must not happen. */
export function count(name: string, value: number, unit: string): BenchCase {
  return {
    case: name,
    value: Number.isInteger(value) ? value : Number(value.toPrecision(4)),
    unit,
    better: 'higher',
    goal: null,
  }
}

/** Random numbers in [0, 1) that follow from the seed (mulberry32). */
export function seeded(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}
