import { describe, expect, test } from 'vitest'
import { plotSvg } from '../../../cli/plot/plot.ts'
import { figuresOf } from '../../../cli/trace/report/measure.ts'
import { reportPlots } from '../../../cli/trace/report/plots.ts'
import { summarise } from '../../../cli/trace/report/summary.ts'
import { markdownReport, terminalReport } from '../../../cli/trace/report/tables.ts'
import type { RunSettings } from '../../../cli/trace/run-folder.ts'
import { traceOf } from './sample-trace.ts'

const RUN: RunSettings = {
  ...{ version: 1, dataset: 'mt_bench', questions: 'q', model: 'm', concurrency: 1 },
  ...{ where: { device: 'cpu' }, request: { max_tokens: 9 } },
}

describe('the report of traces', () => {
  const figures = [
    ...figuresOf(traceOf('81', 'parallel')),
    ...figuresOf(traceOf('81', 'serial')),
    // Without a serial answer: it counts as a parallel one, but not in the comparison.
    ...figuresOf(traceOf('82', 'parallel', 'maths|<b>')),
  ]
  const report = summarise('f', RUN, figures)

  test('measures an answer', () => {
    expect(figures[0]).toMatchObject({
      ...{
        tokens: 7,
        steps: 5,
        us: 5000,
        branches: 2,
        depth: 2,
        mostLive: 2,
        later: 6,
        attended: 4 + 11 + 13 + 9,
      },
      ...{ mostBlocks: 2, mostCached: 10, drafted: 2, accepted: 1, otherRows: 2 },
      live: [1, 1, 2, 2, 1],
    })
    expect(figures[1]).toMatchObject({
      tokens: 5,
      steps: 6,
      us: 6000,
      branches: 1,
      depth: 1,
      later: 4,
      attended: 30,
    })
  })

  test('compares the modes by category', () => {
    expect(report.categories.map(({ category }) => category)).toEqual(['writing', 'maths|<b>'])
    const [writing, maths] = report.categories
    const { attended_per_token, peak_cached_share, ...rest } = writing?.speedup ?? {}
    expect(rest).toEqual({
      answers: 1,
      steps: 7 / 5 / (5 / 6),
      wall_clock: 1.2,
      wall_clock_per_token: 6 / 5 / (5 / 7),
      peak_blocks: 1,
    })
    expect(attended_per_token).toBeCloseTo(37 / 6 / 7.5, 10)
    expect(peak_cached_share).toBeCloseTo(10 / 10 / (10 / 8), 10)
    expect(writing?.branches).toEqual({
      ...{ forking: 1, forks: 1, most_live: 2, max_depth: 2 },
      answers_by_branches: { 2: 1 },
    })
    expect(maths?.speedup).toMatchObject({ answers: 0, steps: null, wall_clock: null })
    expect(report.all.parallel).toMatchObject({
      answers: 2,
      tokens: 14,
      steps: 10,
      tokens_per_step: 1.4,
      drafted: 4,
    })
    expect(report.shared_steps).toBe(true)
  })

  test('is shown in tables, and says when steps were shared', () => {
    const text = terminalReport(report)
    expect(text).toMatch(/^writing +1 +1\.40 +0\.83 +1\.68x/m)
    expect(text).toMatch(/^maths\|<b> +0 +1\.40 +–/m)
    expect(text).toContain('shared the steps')
    expect(text).toMatch(/^all +2 +100 %/m)
    expect(terminalReport(summarise('f', RUN, []))).toMatch(/^all +0 +– +– +–/m)
  })

  test('says which turns were refused', () => {
    expect(terminalReport(report)).not.toContain('refused')
    const some = summarise('f', RUN, figures, { context_length_exceeded: 2 })
    expect(terminalReport(some)).toContain('no figure has: 2 context_length_exceeded')
    expect(markdownReport(some, [])).toContain('no figure has: 2 context')
  })

  test('is Markdown whose cells no category breaks', () => {
    const text = markdownReport(report, ['plots/speed-up.svg'])
    expect(text).toContain('| maths\\|\\<b\\> | 0 | 1.40 | – |')
    expect(text).toContain('![plots/speed-up](plots/speed-up.svg)')
    const widths = new Set(
      text
        .split('\n')
        .filter((line) => line.startsWith('| ') && line.includes('writing'))
        .map((line) => line.split(' | ').length),
    )
    expect(widths.size).toBeGreaterThan(1)
  })

  test('has plots', { timeout: 60_000 }, async () => {
    const plots = reportPlots(report, figures)
    expect(plots.map(({ file }) => file)).toEqual(['speed-up', 'memory', 'branches', 'time-line'])
    for (const { plot } of plots) expect(await plotSvg(plot)).toMatch(/^<svg/)
    expect(reportPlots(summarise('f', RUN, []), [])).toEqual([])
  })
})
