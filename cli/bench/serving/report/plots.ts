import type { NodeLimit } from '../../../commands/node-limits.ts'
import type { Plot } from '../../../plot/plot.ts'
import type { CellSummary, Distribution } from './summary.ts'

const SIZE = { width: 560, height: 260 }
/** Symbols of a colour that no line has, long enough to show their dashes. */
const DASHES = { symbolType: 'stroke', symbolStrokeColor: '#444444', symbolSize: 600 } as const

/** Limits that have the axis in blocks. */
const KV_SIZES: readonly string[] = ['blocks', 'kv-cache-memory-bytes'] satisfies NodeLimit[]

/** What a plot may be over. */
const AXES = [
  { name: 'rate', title: 'requests per second', of: ({ rate }: CellSummary) => rate },
  { name: 'concurrency', title: 'requests in flight', of: ({ concurrency }: CellSummary) => concurrency },
  {
    name: 'kv-blocks',
    title: 'KV blocks of the node',
    of: kvBlocks,
  },
  limitAxis('watermark', 'share of the KV blocks that admission leaves free'),
  limitAxis('max-branches', 'branches that decode at the same time'),
  limitAxis('max-step-tokens', 'most tokens in a step'),
  limitAxis('max-requests', 'most requests on the node'),
] as const

/** By default they follow from other limits: a sweep of these is not one of them. */
function kvBlocks({ node, limits = {} }: CellSummary): number | null {
  const swept = Object.keys(limits)
  const follow = swept.length > 0 && !swept.some((name) => KV_SIZES.includes(name))
  return follow ? null : (node?.kv_blocks ?? null)
}

function limitAxis(name: NodeLimit, title: string) {
  return { name, title, of: ({ limits }: CellSummary) => limits?.[name] ?? null }
}

/**
 * Plots over the rate, the requests in flight, the KV blocks and other limits of the node, where these have several
 * values, by the names of their files. What else varies makes a line of its own.
 */
export function servingPlots(
  cells: readonly CellSummary[],
  subtitle: string,
): { file: string; plot: Plot }[] {
  const varying = AXES.filter(({ of }) => new Set(cells.map(of).filter((x) => x !== null)).size > 1)
  // Runs that differ in nothing that can be an axis, such as those of several servers.
  const points = new Set(cells.map((cell) => JSON.stringify([cell.mode, ...AXES.map(({ of }) => of(cell))])))
  const areNamed = points.size < cells.length
  return varying.flatMap(({ name: axis, title: x, of: at }) =>
    FIGURES.flatMap(({ file, title, y, of }) => {
      const values = cells.flatMap((cell) => {
        const others = varying.filter(({ name }) => name !== axis)
        const line = [
          ...(areNamed ? [cell.run ?? ''] : []),
          cell.mode,
          ...others.map(({ name, of: other }) => (other(cell) === null ? '' : `${name} ${other(cell)}`)),
        ].filter(Boolean)
        return at(cell) === null
          ? []
          : Object.entries(of(cell)).map(([name, value]) => ({
              ...{ x: at(cell), value, of: name },
              line: line.join(', '),
            }))
      })
      return values.length === 0
        ? []
        : [{ file: `${file}-over-${axis}`, plot: lines({ text: title, subtitle }, x, y, values) }]
    }),
  )
}

interface Figure {
  readonly file: string
  readonly title: string
  readonly y: string
  readonly of: (cell: CellSummary) => Record<string, number>
}

const FIGURES: readonly Figure[] = [
  { file: 'ttft', title: 'Time to the first token', y: 'ms', of: ({ ttft_ms }) => twoOf(ttft_ms) },
  { file: 'tpot', title: 'Time per output token', y: 'ms', of: ({ tpot_ms }) => twoOf(tpot_ms) },
  { file: 'e2e', title: 'Time of an answer', y: 'ms', of: ({ e2e_ms }) => twoOf(e2e_ms) },
  {
    file: 'throughput',
    title: 'Throughput',
    y: 'output tokens per second',
    of: ({ output_tokens_per_s }) => ({ mean: output_tokens_per_s }),
  },
  {
    file: 'goodput',
    title: 'Requests within the service level',
    y: 'requests per second',
    of: ({ goodput }): Record<string, number> => (goodput ? { mean: goodput.requests_per_s } : {}),
  },
]

function twoOf(distribution: Distribution | null): Record<string, number> {
  return distribution ? { p50: distribution.p50, p99: distribution.p99 } : {}
}

function lines(
  title: { text: string; subtitle: string },
  x: string,
  y: string,
  values: { x: number | null; value: number; line: string; of: string }[],
): Plot {
  const quantities = new Set(values.map(({ of }) => of)).size
  return {
    ...SIZE,
    title,
    data: { values },
    encoding: {
      x: { field: 'x', type: 'quantitative', title: x },
      y: { field: 'value', type: 'quantitative', title: y },
      color: { field: 'line', type: 'nominal', title: null, sort: null },
    },
    layer: [
      {
        mark: 'line',
        encoding: {
          ...(quantities > 1 && {
            strokeDash: { field: 'of', type: 'nominal', title: null, sort: null, legend: DASHES },
          }),
        },
      },
      { mark: { type: 'point', filled: true, opacity: 1 } },
    ],
  }
}
