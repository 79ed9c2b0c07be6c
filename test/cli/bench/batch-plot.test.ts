import { describe, expect, test } from 'vitest'
import { batchPlot, batchPoints, type TimeLine } from '../../../cli/bench/serving/report/batch-plot.ts'

const READINGS = [
  { at_ms: 0, steps: 0, generated_tokens: 0, prefill_tokens: 0 },
  { at_ms: 250, steps: 10, generated_tokens: 20, prefill_tokens: 100 },
  { at_ms: 500, steps: 10, generated_tokens: 20, prefill_tokens: 100 },
  { at_ms: 760, steps: 30, generated_tokens: 180, prefill_tokens: 100 },
]

function timeLine(more: Partial<TimeLine>): TimeLine {
  return { mode: 'serial', rate: null, concurrency: null, round: 0, readings: READINGS, ...more }
}

describe('tokens in the batch over time', () => {
  test('are those between two readings by the steps between them', () => {
    expect(batchPoints(READINGS)).toEqual([
      { seconds: 0, tokens: 12 },
      { seconds: 0.25, tokens: 12 },
      { seconds: 0.5, tokens: 0 },
      { seconds: 0.76, tokens: 8 },
    ])
  })

  test('are not known of a node that counts no steps', () => {
    expect(batchPoints([{ at_ms: 0 }, { at_ms: 250 }])).toEqual([])
    expect(batchPlot([timeLine({ readings: [] })], 'x')).toBeUndefined()
  })

  test('of a long run have a bounded number of points, and the last one', () => {
    const long = Array.from({ length: 5001 }, (_, at) => ({
      at_ms: at * 250,
      steps: at,
      generated_tokens: 3 * at,
    }))
    const points = batchPoints(long)
    expect(points.length).toBeLessThan(210)
    expect(points.at(-1)).toEqual({ seconds: 1250, tokens: 3 })
  })

  test('have a field for each load and node, with a line for each mode', () => {
    const plot = batchPlot(
      [
        { limits: { blocks: 500 } },
        { limits: { blocks: 500 }, mode: 'parallel' },
        { limits: { blocks: 900 } },
      ].map(timeLine),
      'x',
    )
    const { values } = (plot?.data ?? {}) as { values: { of: string; mode: string }[] }
    expect([...new Set(values.map(({ of, mode }) => `${of}: ${mode}`))]).toEqual([
      'blocks 500: serial',
      'blocks 500: parallel',
      'blocks 900: serial',
    ])
    expect(plot).toMatchObject({ encoding: { row: { sort: ['blocks 500', 'blocks 900'] } } })
    expect(batchPlot([timeLine({})], 'x')).not.toHaveProperty('encoding.row')
  })
})
