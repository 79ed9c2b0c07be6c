import { z } from 'zod'
import { batchPlot, type TimeLine } from '../../cli/bench/serving/report/batch-plot.ts'
import { CellSummary } from '../../cli/bench/serving/report/summary.ts'
import type { Plot } from '../../cli/plot/plot.ts'

/** A measurement of a part, among the samples. */
export const CellLine = CellSummary.extend({
  ...{ part: z.string(), way: z.string(), repetition: z.number() },
  ...{ blocks: z.number().optional(), in_flight: z.number().optional(), share: z.number().optional() },
})
export type CellLine = z.infer<typeof CellLine>

const count = z.number().optional()
/** A reading of the node's metrics, among the samples. */
export const NodeLine = z.object({
  ...{ type: z.literal('node'), part: z.string(), way: z.string(), repetition: z.number() },
  ...{ blocks: count, at_ms: z.number(), steps: count, generated_tokens: count, prefill_tokens: count },
})
export type NodeLine = z.infer<typeof NodeLine>

const SIZE = { width: 560, height: 260 }

interface PartPlot {
  readonly part: string
  readonly title: string
  readonly x: { readonly title: string; readonly of: (cell: CellLine) => number | undefined }
  readonly y: { readonly title: string; readonly of: (cell: CellLine) => number | undefined }
}

/** One for each part that measures over something. */
const PLOTS: readonly PartPlot[] = [
  {
    ...{ part: 'saturation', title: 'Throughput over KV memory' },
    x: { title: 'KV blocks of 16 tokens', of: ({ blocks }) => blocks },
    y: { title: 'answers per second', of: ({ requests_per_s }) => requests_per_s },
  },
  {
    ...{ part: 'concurrency', title: 'Time of an answer over requests in flight' },
    x: { title: 'requests in flight', of: ({ in_flight }) => in_flight },
    y: { title: 'seconds in the mean', of: ({ e2e_ms }) => (e2e_ms ? e2e_ms.mean / 1000 : undefined) },
  },
  {
    ...{ part: 'deadline', title: 'Goodput over the rate of requests' },
    x: { title: 'rate, as a share of that which saturates serial decoding', of: ({ share }) => share },
    y: { title: 'requests per second within their deadlines', of: ({ goodput }) => goodput?.requests_per_s },
  },
]

/** A plot with the part that it is of; `name` is unique. */
export interface NamedPlot {
  readonly part: string
  readonly name: string
  readonly plot: Plot
}

/** Medians of the repetitions, and every repetition as a point. */
export function partPlots(cells: readonly CellLine[], subtitle: string): NamedPlot[] {
  return PLOTS.flatMap(({ part, title, x, y }) => {
    const values = cells
      .filter((cell) => cell.part === part)
      .map((cell) => ({ x: x.of(cell), y: y.of(cell), way: cell.way }))
      .filter((value) => value.x !== undefined && value.y !== undefined)
    if (values.length === 0) return []
    const axes = {
      x: { field: 'x', type: 'quantitative', title: x.title, scale: { zero: false } },
      color: { field: 'way', type: 'nominal', title: null, sort: null },
    } as const
    const plot: Plot = {
      ...{ ...SIZE, title: { text: title, subtitle }, data: { values } },
      layer: [
        {
          mark: { type: 'line' },
          encoding: { ...axes, y: { field: 'y', aggregate: 'median', type: 'quantitative', title: y.title } },
        },
        {
          mark: { type: 'point', filled: true },
          encoding: { ...axes, y: { field: 'y', type: 'quantitative', title: y.title } },
        },
      ],
    }
    return [{ part, name: part, plot }]
  })
}

/** Tokens in the batch while requests wait for KV memory, in the first repetition. */
export function batchPlots(lines: readonly NodeLine[], subtitle: string): NamedPlot[] {
  const part = 'saturation'
  const timeLines = new Map<string, TimeLine & { readings: NodeLine[] }>()
  for (const line of lines.filter((each) => each.part === part && each.repetition === 0)) {
    const { way, blocks = 0 } = line
    const key = `${way}/${blocks}`
    const timeLine = timeLines.get(key) ?? {
      ...{ mode: way, rate: null, concurrency: null, limits: { blocks }, round: 0 },
      readings: [],
    }
    timeLine.readings.push(line)
    timeLines.set(key, timeLine)
  }
  const plot = batchPlot([...timeLines.values()], subtitle)
  return plot ? [{ part, name: `${part}-batch`, plot }] : []
}
