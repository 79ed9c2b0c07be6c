import { FLAT_PERCENT } from '../../bench/edge/process-usage.ts'
import type { BenchCase } from '../../bench/report.ts'

export interface ScenarioOptions {
  /** Number of drops, kills, evictions, races or inputs, or duration in seconds. */
  readonly size: number
  /** Seed of all random choices; results also depend on timing. */
  readonly seed: number
  /** Prints a line of progress. */
  readonly log: (line: string) => void
  /** Stores a raw sample. */
  readonly record: (sample: Record<string, unknown>) => void
}

/** Injects faults and counts their effects. */
export type Scenario = (options: ScenarioOptions) => Promise<BenchCase[]>

/** A case with goal 0: `value` is how often a forbidden effect occurred. */
export function never(name: string, value: number, unit: string): BenchCase {
  return { case: name, value, unit, better: 'lower', goal: 0 }
}

/** In shorter runs caches and heaps still fill, so the growth of memory means nothing. */
const MIN_MEMORY_RUN_S = 120

/** Growth of memory over a run of this many seconds; a short run has no goal. */
export function flat(name: string, percent: number, seconds: number): BenchCase {
  const goal = seconds < MIN_MEMORY_RUN_S ? null : FLAT_PERCENT
  return { case: name, value: Number(percent.toPrecision(4)), unit: '%', better: 'lower', goal }
}

/** A case without a goal: context for the other cases. */
export function count(name: string, value: number, unit: string): BenchCase {
  return {
    case: name,
    value: Number.isInteger(value) ? value : Number(value.toPrecision(4)),
    unit,
    better: 'higher',
    goal: null,
  }
}

/** A seeded random number generator in [0, 1) (mulberry32). */
export function seeded(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}
