import type { Plot } from '../../../plot/plot.ts'
import type { CellSummary, Distribution } from './summary.ts'

const SIZE = { width: 560, height: 260 }

/** Plots over the rate, or over the requests in flight, by the names of their files; none where neither was swept. */
export function servingPlots(
  cells: readonly CellSummary[],
  subtitle: string,
): { file: string; plot: Plot }[] {
  return AXES.flatMap(({ axis, other, title: x }) => {
    const swept = cells.filter((cell) => cell[axis] !== null)
    if (new Set(swept.map((cell) => cell[axis])).size < 2) return []
    return FIGURES.flatMap(({ file, title, y, of }) => {
      const values = swept.flatMap((cell) =>
        Object.entries(of(cell)).map(([name, value]) => ({
          x: cell[axis],
          value,
          // Without the name of a single mode, and of what was not swept.
          line: [cell.mode, cell[other] === null ? '' : `${other} ${cell[other]}`].filter(Boolean).join(', '),
          of: name,
        })),
      )
      return values.length === 0
        ? []
        : [{ file: `${file}-over-${axis}`, plot: lines({ text: title, subtitle }, x, y, values) }]
    })
  })
}

const AXES = [
  { axis: 'rate', other: 'concurrency', title: 'requests per second' },
  { axis: 'concurrency', other: 'rate', title: 'requests in flight' },
] as const

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
    mark: { type: 'line', point: true },
    encoding: {
      x: { field: 'x', type: 'quantitative', title: x },
      y: { field: 'value', type: 'quantitative', title: y },
      color: { field: 'line', type: 'nominal', title: null, sort: null },
      ...(quantities > 1 && {
        strokeDash: {
          field: 'of',
          type: 'nominal',
          title: null,
          sort: null,
          legend: { symbolType: 'stroke' },
        },
      }),
    },
  }
}
