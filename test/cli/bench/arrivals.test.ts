import { describe, expect, test } from 'vitest'
import { randomArrivals, scaledArrivals } from '../../../cli/bench/serving/workload/arrivals.ts'
import { seededRandom } from '../../../training/data/random.ts'

const COUNT = 100_000
const RATE = 4

function gapsAt(burstiness: number, seed = 1): number[] {
  const arrivals = randomArrivals(COUNT, { rate: RATE, burstiness }, seededRandom(seed))
  return arrivals.slice(1).map((at, index) => at - (arrivals[index] ?? 0))
}

function meanOf(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length
}

/** Standard deviation over mean: 1 / √shape for a gamma distribution. */
function variation(values: readonly number[]): number {
  const mean = meanOf(values)
  return Math.sqrt(meanOf(values.map((value) => (value - mean) ** 2))) / mean
}

describe('random arrivals', () => {
  test.each([0.25, 1, 9])(
    'with burstiness %d have the mean rate and the spread of a gamma distribution',
    (shape) => {
      const gaps = gapsAt(shape)
      expect(gaps.every((gap) => gap >= 0)).toBe(true)
      expect(1000 / meanOf(gaps) / RATE).toBeCloseTo(1, 1)
      expect(variation(gaps) * Math.sqrt(shape)).toBeCloseTo(1, 1)
    },
  )

  test('of a Poisson process are within the mean gap as often as an exponential distribution says', () => {
    const within = gapsAt(1).filter((gap) => gap < 1000 / RATE).length / COUNT
    expect(within).toBeCloseTo(1 - Math.exp(-1), 2)
  })

  test('begin at 0 and are the same for the same seed only', () => {
    const arrivals = (seed: number) => randomArrivals(5, { rate: 1, burstiness: 1 }, seededRandom(seed))
    expect(arrivals(7)[0]).toBe(0)
    expect(arrivals(7)).toEqual(arrivals(7))
    expect(arrivals(7)).not.toEqual(arrivals(8))
  })
})

describe('recorded arrivals', () => {
  test('keep their shape at another rate', () => {
    // Two gaps in 4 s; at 2 requests a second they take 1 s.
    expect(scaledArrivals([0, 1000, 4000], 2)).toEqual([0, 250, 1000])
  })

  test('that were all at once stay so', () => {
    expect(scaledArrivals([0, 0], 2)).toEqual([0, 0])
  })
})
