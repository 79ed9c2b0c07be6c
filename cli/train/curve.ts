import { renameSync, writeFileSync } from 'node:fs'
import { basename, resolve } from 'node:path'
import { UserError } from '../explain.ts'
import { type Plot, plotPng, plotSvg } from '../plot/plot.ts'
import { type RunLog, readRunLog } from './run-log.ts'

const CURVES = new Map([
  ['loss', 'training'],
  ['held_out_structured_loss', 'held out: with branches'],
  ['held_out_unstructured_loss', 'held out: unstructured'],
  ['held_out_serial_loss', 'held out: serial'],
  ['held_out_fork_loss', 'held out: [Fork]'],
])
/** More points than a plot has columns only make it large. */
const MAX_POINTS = 1000

/** Draws the losses of runs, one after the other or side by side, as an SVG or PNG file. */
export async function writeCurve(runs: readonly string[], file: string): Promise<void> {
  const isPng = file.endsWith('.png')
  if (!isPng && !file.endsWith('.svg')) {
    throw new UserError('invalid_option', `--out: ${file} must end with .svg or .png`)
  }
  const logs = runs.map((run) => ({ name: basename(resolve(run)), log: readRunLog(run) }))
  const svg = await plotSvg(lossPlot(logs))
  writeFileSync(`${file}.part`, isPng ? await plotPng(svg) : svg)
  renameSync(`${file}.part`, file)
}

/** A line for each loss, a colour for each kind, and a dash for each run. */
export function lossPlot(runs: readonly { name: string; log: RunLog }[]): Plot {
  const values = runs.flatMap(({ name, log }) =>
    [...CURVES].flatMap(([metric, loss]) =>
      thinned(log.series.get(metric) ?? []).map(({ step, value }) => ({ run: name, loss, step, value })),
    ),
  )
  return {
    $schema: 'https://vega.github.io/schema/vega-lite/v6.json',
    width: 640,
    height: 320,
    data: { values },
    mark: { type: 'line', clip: true },
    encoding: {
      x: { field: 'step', type: 'quantitative', title: 'step' },
      y: { field: 'value', type: 'quantitative', title: 'loss, nats per token', scale: { zero: false } },
      color: { field: 'loss', type: 'nominal', title: null, sort: [...CURVES.values()] },
      ...(runs.length > 1 && { strokeDash: { field: 'run', type: 'nominal', title: 'run' } }),
    },
  }
}

function thinned<T>(points: readonly T[]): readonly T[] {
  const every = Math.ceil(points.length / MAX_POINTS)
  return points.filter((_, index) => index % every === 0 || index === points.length - 1)
}
