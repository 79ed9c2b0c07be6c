import { describe, expect, test } from 'vitest'
import { differences, timed } from '../../bench/edge/first-token.ts'
import { percentile } from '../../cli/bench/percentile.ts'

describe('a percentile', () => {
  test.each([
    [50, 2],
    [75, 3],
    [99, 10],
    [100, 10],
    [0, 1],
  ])('%i of four values', (percent, value) => {
    expect(percentile([10, 2, 3, 1], percent)).toBe(value)
  })

  test('throws without values', () => {
    expect(() => percentile([], 50)).toThrow('no values')
  })

  test.each([Number.NaN, Number.POSITIVE_INFINITY])('throws when a value is %d', (value) => {
    expect(() => percentile([1, value, 3], 50)).toThrow(`value 1 of 3 is ${value}`)
  })
})

describe('time to first token', () => {
  test('throws when the answer had no token', () => {
    expect(timed('edge', 1.5)).toBe(1.5)
    expect(() => timed('edge', Number.NaN)).toThrow('the answer of edge ended without a token')
  })

  test('is compared pair by pair, and throws when a pair is incomplete', () => {
    expect(differences([3, 5], [1, 2])).toEqual([2, 3])
    expect(() => differences([3, 5], [1])).toThrow('2 samples cannot be compared with 1')
  })
})
