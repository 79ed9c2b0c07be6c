import { describe, expect, test } from 'vitest'
import { differences, timed } from '../../bench/edge/first-token.ts'
import { percentile } from '../../bench/edge/percentile.ts'

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

  test('of none there is none', () => {
    expect(() => percentile([], 50)).toThrow('no values')
  })

  test.each([Number.NaN, Number.POSITIVE_INFINITY])('does not pass over a value that is %d', (value) => {
    expect(() => percentile([1, value, 3], 50)).toThrow(`value 1 of 3 is ${value}`)
  })
})

describe('the first token', () => {
  test('of an answer without one has no time', () => {
    expect(timed('edge', 1.5)).toBe(1.5)
    expect(() => timed('edge', Number.NaN)).toThrow('the answer of edge ended without a token')
  })

  test('is compared pair by pair, and only when all pairs are there', () => {
    expect(differences([3, 5], [1, 2])).toEqual([2, 3])
    expect(() => differences([3, 5], [1])).toThrow('2 samples cannot be set beside 1')
  })
})
