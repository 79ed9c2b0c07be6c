import { type BenchCase, median } from '../report.ts'
import type { EngineCase } from './cases.ts'

/** One line of the raw samples: the figures of both sides in one repetition. */
export interface Sample {
  readonly bench: 'engine'
  readonly case: string
  readonly repetition: number
  /** tok/s; for `neighbour` cases the share of the speed that is kept. */
  readonly ours: number
  /** Absent when the peer is not built. */
  readonly theirs?: number
  /** tok/s; absent for `neighbour` cases. */
  readonly floor?: number
}

/** Converts a case's samples to result rows: the measured value, then one row for each goal of the issue. */
export function summarise(test: EngineCase, samples: readonly Sample[]): BenchCase[] {
  const ours = spread(samples.map((sample) => sample.ours))
  const peer = spread(samples.flatMap((sample) => sample.theirs ?? []))
  const floor = spread(samples.flatMap((sample) => sample.floor ?? []))
  const ratio = spread(samples.flatMap(({ ours, theirs }) => (theirs === undefined ? [] : ours / theirs)))
  const ofFloor = spread(samples.flatMap(({ ours, floor }) => (floor === undefined ? [] : ours / floor)))
  const isShare = test.kind === 'neighbour'
  const measured: BenchCase = {
    case: test.name,
    ...(ours ?? { value: Number.NaN }),
    unit: isShare ? 'share' : 'tok/s',
    better: 'higher',
    goal: isShare ? test.goal : null,
    ...(floor && ofFloor && { floor: floor.value, ofFloor: ofFloor.value }),
    ...(peer && ratio && { peer: peer.value, ratio: ratio.value }),
  }
  const rows = [measured]
  const add = (name: string, figure: Spread | undefined, unit: string, goal: number | undefined) => {
    if (figure && goal !== undefined)
      rows.push({ case: `${test.name}: ${name}`, ...figure, unit, better: 'higher', goal })
  }
  add('times the peer', ratio, 'x', isShare ? undefined : test.goal)
  add('share of the bandwidth', ofFloor, 'share', test.goalOfFloor)
  return rows
}

interface Spread {
  value: number
  low: number
  high: number
}

/** Median, smallest and largest. */
export function spread(values: readonly number[]): Spread | undefined {
  if (values.length === 0) return undefined
  return { value: round(median(values)), low: round(Math.min(...values)), high: round(Math.max(...values)) }
}

function round(value: number): number {
  return Number(value.toPrecision(4))
}
