import { readFileSync } from 'node:fs'
import { type Plot, plotSvg } from '../cli/plot/plot.ts'
import { AparError } from '../shared/errors.ts'
import { parseJson } from '../shared/parse.ts'
import { BenchResult, isMet } from './report.ts'

const COLOURS = { met: '#1f6f54', missed: '#d98a29', 'no goal': '#7a7f87' }
const SIZE = { width: 420, height: { step: 22 } }

/** Writes an SVG of a result's ratios to standard output: `file` holds what a bench printed with --json. */
export async function plot(file: string): Promise<void> {
  process.stdout.write(await plotSvg(ratioPlot(readResult(file))))
}

/** @throws Error that names the file: raw samples, or a table, are no result */
export function readResult(file: string): BenchResult {
  const text = readFileSync(file, 'utf8')
  try {
    return parseJson(BenchResult, text)
  } catch (error) {
    if (!(error instanceof AparError)) throw error
    throw new Error(`${file} is not what a bench prints with --json: ${error.message}`)
  }
}

/** For every ratio its median, its range, and a bar at the goal; one of 0 is at the axis' end. @throws Error without ratios */
export function ratioPlot({ bench, commit, machine, cases }: BenchResult): Plot {
  const values = cases
    .filter(({ unit }) => unit === 'x')
    .map((row) => {
      const { case: name, value, goal, low = value, high = value } = row
      const state: keyof typeof COLOURS = goal === null ? 'no goal' : isMet(row) ? 'met' : 'missed'
      return { name, value, low, high, goal, state, label: `${value.toFixed(2)}x` }
    })
  if (values.length === 0) throw new Error(`the result of ${bench} has no ratio to draw`)
  const ends = values.flatMap(({ low, high, goal }) => [low, high, goal ?? 1]).filter((end) => end > 0)
  const domain = [0.9 * Math.min(...ends), 1.4 * Math.max(...ends)]
  const y = { field: 'name', type: 'nominal', sort: null, title: null, axis: { labelLimit: 0 } } as const
  const x = {
    type: 'quantitative',
    scale: { type: 'log', base: 2, domain, nice: false, clamp: true },
  } as const
  const color = {
    field: 'state',
    type: 'nominal',
    scale: { domain: Object.keys(COLOURS), range: Object.values(COLOURS) },
    legend: { title: 'goal' },
  } as const
  const title = { text: `Ratios of bench ${bench}`, subtitle: `${machine}; commit ${commit}` }
  return {
    ...{ ...SIZE, title, data: { values } },
    layer: [
      {
        mark: { type: 'rule', strokeWidth: 3 },
        encoding: {
          y,
          color,
          x: { ...x, field: 'low', title: 'times (median, range)' },
          x2: { field: 'high' },
        },
      },
      {
        mark: { type: 'tick', thickness: 2, color: '#57606a' },
        transform: [{ filter: 'datum.goal != null' }],
        encoding: { y, x: { ...x, field: 'goal' } },
      },
      { mark: { type: 'circle', size: 60, opacity: 1 }, encoding: { y, color, x: { ...x, field: 'value' } } },
      {
        mark: { type: 'text', align: 'left', dx: 10, dy: -6, fontSize: 10 },
        encoding: { y, x: { ...x, field: 'high' }, text: { field: 'label' } },
      },
    ],
  }
}
