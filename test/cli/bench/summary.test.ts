import { describe, expect, test } from 'vitest'
import type { Sample } from '../../../cli/bench/serving/load/sample.ts'
import { servingPlots } from '../../../cli/bench/serving/report/plots.ts'
import { type CellSummary, summariseCell } from '../../../cli/bench/serving/report/summary.ts'
import { markdownReport, notesOf, terminalReport } from '../../../cli/bench/serving/report/tables.ts'
import type { Cell } from '../../../cli/bench/serving/run-serving.ts'
import { type Plot, plotSvg } from '../../../cli/plot/plot.ts'
import { sampleOf } from './sample.ts'

const CLIENT = { loop_late_p99_ms: 1, loop_late_max_ms: 2, sent_late_p99_ms: 0, cpu: 0.1, late: false }
const NO_LEVEL = { ttft_ms: null, tpot_ms: null }

function cellOf(samples: Sample[], more: Partial<Cell> = {}): Cell {
  const settings = { mode: 'serial', rate: null, concurrency: null } as const
  return { settings, samples, durationMs: 10_000, client: CLIENT, node: undefined, ...more }
}

/** Times to the first token of 1 to 100 ms, in an order of their own. */
const HUNDRED = Array.from({ length: 100 }, (_, index) => sampleOf({ ttft_ms: ((index * 37) % 100) + 1 }))

describe('a summary', () => {
  test('has the percentiles of its samples by nearest rank', () => {
    const { ttft_ms } = summariseCell(cellOf(HUNDRED), NO_LEVEL)
    expect(ttft_ms).toEqual({ mean: 50.5, p50: 50, p90: 90, p95: 95, p99: 99 })
  })

  test('counts tokens, requests and time', () => {
    const failed = sampleOf({ error: 'overloaded', ttft_ms: null, output_tokens: 0, prompt_tokens: null })
    const samples = [sampleOf({ cached_tokens: 4 }), sampleOf({ output_tokens: 5 }), failed, failed]
    expect(summariseCell(cellOf(samples), NO_LEVEL)).toMatchObject({
      ...{ requests: 4, completed: 2, errors: { overloaded: 2 }, duration_s: 10 },
      ...{ requests_per_s: 0.2, output_tokens_per_s: 0.8, output_tokens: 8 },
      ...{ prompt_tokens: 20, cached_tokens: 4, goodput: null },
    })
  })

  test('has the time per token of each answer, and the gaps of all', () => {
    const samples = [
      sampleOf({ gaps_ms: [10, 30], output_tokens: 5 }),
      sampleOf({ gaps_ms: [], output_tokens: 1 }),
    ]
    const { tpot_ms, itl_ms } = summariseCell(cellOf(samples), NO_LEVEL)
    // 40 ms for the four tokens behind the first one; an answer of one token has none.
    expect(tpot_ms?.p99).toBe(10)
    expect([itl_ms?.p50, itl_ms?.p99]).toEqual([10, 30])
  })

  test('counts as good what keeps both limits, of all requests', () => {
    const samples = [
      sampleOf({}),
      sampleOf({ ttft_ms: 101 }),
      sampleOf({ gaps_ms: [250, 250] }),
      sampleOf({ error: 'overloaded' }),
    ]
    const { goodput } = summariseCell(cellOf(samples), { ttft_ms: 100, tpot_ms: 200 })
    expect(goodput).toEqual({ share: 0.25, requests_per_s: 0.1 })
  })

  test('of failures alone has no latencies', () => {
    const summary = summariseCell(cellOf([sampleOf({ error: 'ECONNREFUSED' })]), NO_LEVEL)
    expect([summary.ttft_ms, summary.e2e_ms, summary.output_tokens_per_s]).toEqual([null, null, 0])
  })
})

describe('a report', () => {
  const at = (rate: number, more: Partial<Cell> = {}) =>
    summariseCell(
      cellOf(HUNDRED, { settings: { mode: 'parallel', rate, concurrency: null }, ...more }),
      NO_LEVEL,
    )
  const head = { title: 'vicuna_bench · demo · chat', facts: ['local'] }

  test('has a row for each cell, in both forms', () => {
    const cells = [at(1), at(2, { node: { kv_peak: 0.25, steps: 50, generated_tokens: 300 } })]
    const text = terminalReport(head, cells)
    expect(text).toMatch(/parallel, 1 requests\/s +50\.0 +90\.0 +99\.0/)
    expect(text).toMatch(/parallel, 2 requests\/s +– +25\.0 % +– +– +50 +6\.0/)
    const markdown = markdownReport(head, cells, ['plots/ttft-over-rate.svg'])
    expect(markdown).toContain('| parallel, 1 requests/s | 50.0 | 90.0 | 99.0 |')
    expect(markdown).toContain('![ttft-over-rate](plots/ttft-over-rate.svg)')
  })

  test('says what makes its figures doubtful', () => {
    expect(notesOf([at(1)])).toEqual([])
    const late = at(1, { client: { ...CLIENT, loop_late_p99_ms: 80, late: true } })
    expect(notesOf([late])).toEqual([expect.stringContaining('this program was late (timers 80 ms')])
    const uncounted = at(1, { samples: [sampleOf({ counted: false }), sampleOf({ error: 'overloaded' })] })
    expect(notesOf([uncounted])).toEqual([
      expect.stringContaining('1 overloaded'),
      expect.stringContaining('pieces of text are counted'),
    ])
    const samples = [2, 3, 4].map((asked_tokens) => sampleOf({ asked_tokens, output_tokens: 3 }))
    expect(notesOf([at(1, { samples })])).toEqual([
      expect.stringContaining('1 answers have fewer tokens than asked for'),
    ])
    const settings = { mode: 'medusa', rate: 1, concurrency: null } as const
    const undrafted = [at(1, { settings, node: { drafted: 0 } }), at(1, { settings, node: { drafted: 5 } })]
    expect(notesOf(undrafted)).toEqual([expect.stringContaining('nothing was drafted')])
    const cached = at(1, { samples: [sampleOf({ cached_tokens: 8 })] })
    expect(notesOf([at(2), cached])).toEqual([expect.stringContaining('prefix cache')])
  })

  test('has plots over what was swept only', () => {
    const files = servingPlots([at(1), at(2)], 'x').map(({ file }) => file)
    expect(files).toEqual(['ttft', 'tpot', 'e2e', 'throughput'].map((name) => `${name}-over-rate`))
    expect(servingPlots([at(1)], 'x')).toEqual([])
  })

  test('shows in the legend which dashes are which quantile', async () => {
    const ttft = servingPlots([at(1), at(2)], 'x').find(({ file }) => file.startsWith('ttft'))
    const svg = await plotSvg(ttft?.plot as Plot)
    const symbols = [...svg.matchAll(/role-legend-symbol[^>]*><path ([^>]*)/g)].map(([, path]) => path)
    const dashed = symbols.filter((path) => path?.includes('stroke-dasharray'))
    expect(dashed).toHaveLength(2)
    for (const path of dashed) expect(path).toMatch(/ stroke="#/)
  })

  test('of a sweep names the limits of the node, and has plots over them', () => {
    const swept = (limits: Record<string, number>, blocks: number) =>
      at(1, {
        settings: { mode: 'parallel', rate: null, concurrency: 8, limits },
        node: { kv_blocks: blocks },
      })
    const cells = [100, 200].flatMap((blocks) =>
      [0, 0.1].map((watermark) => swept({ blocks, watermark }, blocks)),
    )
    expect(terminalReport(head, cells)).toContain('parallel, blocks 100, watermark 0.1, 8 in flight')
    const plots = servingPlots(cells, 'x')
    const axes = ['kv-blocks', 'watermark']
    expect(plots.map(({ file }) => file)).toEqual(
      axes.flatMap((axis) => ['ttft', 'tpot', 'e2e', 'throughput'].map((name) => `${name}-over-${axis}`)),
    )
    const { data } = plots.find(({ file }) => file === 'throughput-over-watermark')?.plot ?? {}
    const { values } = data as { values: { x: number; line: string }[] }
    expect(values.map(({ x, line }) => [x, line])).toEqual([
      [0, 'parallel, kv-blocks 100'],
      [0.1, 'parallel, kv-blocks 100'],
      [0, 'parallel, kv-blocks 200'],
      [0.1, 'parallel, kv-blocks 200'],
    ])
  })

  test('of a sweep of branches has none over the KV blocks that follow from it', () => {
    const cells = [8, 64].map((branches) =>
      at(1, {
        settings: { mode: 'serial', rate: null, concurrency: null, limits: { 'max-branches': branches } },
        node: { kv_blocks: 65 * branches },
      }),
    )
    const files = servingPlots(cells, 'x').map(({ file }) => file)
    expect(files).toEqual(['ttft', 'tpot', 'e2e', 'throughput'].map((name) => `${name}-over-max-branches`))
  })

  test('of several runs has plots over their KV blocks, or a line for each', () => {
    const run = (name: string, blocks: number, more: Partial<Cell> = {}) => ({
      ...at(1, { node: { kv_blocks: blocks }, ...more }),
      run: name,
    })
    const linesOf = (cells: CellSummary[], wanted: string) => {
      const { data } = servingPlots(cells, 'x').find(({ file }) => file === wanted)?.plot ?? {}
      const values = (data as { values: { x: number; line: string }[] }).values
      return values.map(({ x, line }) => [x, line])
    }
    expect(linesOf([run('a', 100), run('b', 200)], 'throughput-over-kv-blocks')).toEqual([
      [100, 'parallel'],
      [200, 'parallel'],
    ])
    const servers = [at(1), at(2)].flatMap((cell) =>
      ['ours', 'other'].map((name) => ({ ...cell, run: name })),
    )
    expect(linesOf(servers, 'throughput-over-rate')).toEqual([
      [1, 'ours, parallel'],
      [1, 'other, parallel'],
      [2, 'ours, parallel'],
      [2, 'other, parallel'],
    ])
  })
})
