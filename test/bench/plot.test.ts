import { describe, expect, test } from 'vitest'
import { ratioPlot } from '../../bench/plot.ts'
import type { BenchCase } from '../../bench/report.ts'
import { plotSvg } from '../../cli/plot/plot.ts'

const ratio = (name: string, value: number, more: Partial<BenchCase> = {}): BenchCase => ({
  ...{ case: name, value, unit: 'x', better: 'higher', goal: null },
  ...more,
})
const result = (...cases: BenchCase[]) => ({ bench: 'engine', commit: 'abc1234', machine: 'a < b', cases })

describe('the plot of a result', () => {
  test('has a point for every ratio, and says whether its goal is met', async () => {
    const cases = [
      ratio('faster', 1000, { goal: 2, low: 900, high: 1100 }),
      ratio('too slow', 1.5, { goal: 2 }),
      ratio('too late', 1.5, { better: 'lower', goal: 1 }),
      ratio('without a goal', 3),
      ratio('a rate', 5, { unit: 'tok/s' }),
    ]
    const plot = ratioPlot(result(...cases))
    expect(plot).toMatchObject({
      data: { values: [{ state: 'met' }, { state: 'missed' }, { state: 'missed' }, { state: 'no goal' }] },
    })
    const svg = await plotSvg(plot)
    expect(svg).toContain('1000.00x')
    expect(svg).toContain('a &lt; b; commit abc1234')
    expect(svg).not.toContain('a rate')
  })

  test('cannot be drawn without ratios', () => {
    expect(() => ratioPlot(result(ratio('a rate', 5, { unit: 'tok/s' })))).toThrow('no ratio')
  })
})
