import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { ratioPlot, readResult } from '../../bench/plot.ts'
import type { BenchCase } from '../../bench/report.ts'
import { plotSvg } from '../../cli/plot/plot.ts'

const ratio = (name: string, value: number, more: Partial<BenchCase> = {}): BenchCase => ({
  ...{ case: name, value, unit: 'x', better: 'higher', goal: null },
  ...more,
})
const result = (...cases: BenchCase[]) => ({
  ...{ bench: 'engine', commit: 'abc1234', machine: 'a < b', samples: 'bench/results/engine.jsonl', cases },
})

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

  test('has a ratio of 0 at the end of its axis', async () => {
    const svg = await plotSvg(ratioPlot(result(ratio('nothing', 0, { low: 0, high: 0 }), ratio('faster', 2))))
    expect(svg).toContain('0.00x')
    expect(svg).not.toMatch(/NaN|Infinity/)
  })

  test('is of a result: other files are refused by name', () => {
    const folder = mkdtempSync(join(tmpdir(), 'apar-plot-'))
    try {
      const file = join(folder, 'result.json')
      const cases = [ratio('faster', 2)]
      writeFileSync(file, JSON.stringify(result(...cases)))
      expect(readResult(file)).toEqual(result(...cases))
      writeFileSync(file, '{"bench": "engine", "case": "a"}\n{"bench": "engine", "case": "b"}\n')
      expect(() => readResult(file)).toThrow(`${file} is not what a bench prints with --json`)
    } finally {
      rmSync(folder, { recursive: true })
    }
  })

  test('cannot be drawn without ratios', () => {
    expect(() => ratioPlot(result(ratio('a rate', 5, { unit: 'tok/s' })))).toThrow('no ratio')
  })
})
