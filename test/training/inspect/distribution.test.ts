import { describe, expect, it } from 'vitest'
import { Distribution } from '../../../training/data/inspect/distribution.ts'

const of = (values: Iterable<number>) => {
  const distribution = new Distribution()
  for (const value of values) distribution.add(value)
  return distribution
}

describe('a distribution', () => {
  it('has exact quantiles of small numbers', () => {
    const values = Array.from({ length: 100 }, (_, at) => at + 1)
    expect(of(values).summary()).toEqual({
      count: 100,
      min: 1,
      mean: 50.5,
      p50: 50,
      p90: 90,
      p99: 99,
      max: 100,
    })
    expect(of([0]).summary()).toEqual({ count: 1, min: 0, mean: 0, p50: 0, p90: 0, p99: 0, max: 0 })
    expect(of([]).summary()).toBeUndefined()
  })

  it('has quantiles of large numbers to 1/64, in bounded memory', () => {
    const summary = of(Array.from({ length: 100_000 }, (_, at) => at * 1000)).summary()
    for (const [share, found] of [
      [0.5, summary?.p50],
      [0.9, summary?.p90],
      [0.99, summary?.p99],
    ] as const) {
      const exact = share * 100_000_000
      expect(found).toBeGreaterThan(exact * (1 - 1 / 64) - 1000)
      expect(found).toBeLessThanOrEqual(exact)
    }
    expect(summary?.max).toBe(99_999_000)
  })

  it('gives bars of round, equal widths that hold every value', () => {
    expect(of([3, 3, 5]).histogram(40)).toEqual([
      { from: 3, to: 4, count: 2 },
      { from: 4, to: 5, count: 0 },
      { from: 5, to: 6, count: 1 },
    ])
    for (const most of [1, 39, 40, 41, 127, 128, 129, 1000, 4095, 4097, 123_456]) {
      const values = Array.from({ length: 500 }, (_, at) => Math.round((at * most) / 499))
      const bars = of(values).histogram(40)
      expect(bars.length).toBeLessThanOrEqual(42)
      expect(bars.reduce((sum, { count }) => sum + count, 0)).toBe(500)
      expect(new Set(bars.map(({ from, to }) => to - from)).size).toBe(1)
      expect(bars[0]?.from).toBe(0)
      expect(bars.at(-1)?.to).toBeGreaterThan(most)
    }
    expect(of([]).histogram(40)).toEqual([])
  })
})
