import { renameSync, writeFileSync } from 'node:fs'
import { basename, resolve } from 'node:path'
import { UserError } from '../explain.ts'
import { type Plot, plotPng, plotSvg } from '../plot/plot.ts'
import { accuracyName, headsOf, TOP } from './head-metrics.ts'
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
const SIZE = { width: 640, height: 320, mark: { type: 'line', clip: true } } as const
const RUN_DASH = { strokeDash: { field: 'run', type: 'nominal', title: 'run' } } as const
const STEPS = { field: 'step', type: 'quantitative', title: 'step' } as const

/** Draws the losses of runs, and the accuracies of heads, one after the other or side by side, as an SVG or PNG file. */
export async function writeCurve(runs: readonly string[], file: string): Promise<void> {
  const isPng = file.endsWith('.png')
  if (!isPng && !file.endsWith('.svg')) {
    throw new UserError('invalid_option', `--out: ${file} must end with .svg or .png`)
  }
  const logs = runs.map((run) => ({ name: basename(resolve(run)), log: readRunLog(run) }))
  const svg = await plotSvg(runPlot(logs))
  writeFileSync(`${file}.part`, isPng ? await plotPng(svg) : svg)
  renameSync(`${file}.part`, file)
}

type Panel = Extract<Plot, { vconcat: unknown }>['vconcat'][number]

interface NamedLog {
  readonly name: string
  readonly log: RunLog
}

/** The losses, and of Medusa heads their accuracies below. */
export function runPlot(runs: readonly NamedLog[]): Plot {
  const panels = [lossPanel(runs), ...(runs.some(({ log }) => headsOf(log) > 0) ? [accuracyPanel(runs)] : [])]
  return {
    $schema: 'https://vega.github.io/schema/vega-lite/v6.json',
    vconcat: panels,
    resolve: { scale: { color: 'independent', strokeDash: 'independent' } },
  }
}

/** A line for each loss, a colour for each kind, and a dash for each run. */
function lossPanel(runs: readonly NamedLog[]): Panel {
  const curves = runs.map(({ log }) => curvesOf(log))
  const values = runs.flatMap(({ name, log }, at) =>
    [...(curves[at] ?? [])].flatMap(([metric, loss]) =>
      thinned(log.series.get(metric) ?? []).map(({ step, value }) => ({ run: name, loss, step, value })),
    ),
  )
  const order = [...new Set(curves.flatMap((each) => [...each.values()]))]
  return {
    ...SIZE,
    data: { values },
    encoding: {
      x: STEPS,
      y: { field: 'value', type: 'quantitative', title: 'loss, nats per token', scale: { zero: false } },
      color: { field: 'loss', type: 'nominal', title: null, sort: order },
      ...(runs.length > 1 && RUN_DASH),
    },
  }
}

/** A colour for each number of tokens that count, and a dash for each head. */
function accuracyPanel(runs: readonly NamedLog[]): Panel {
  const values = runs.flatMap(({ name, log }) =>
    Array.from({ length: headsOf(log) }, (_, head) => head).flatMap((head) =>
      TOP.flatMap((k) =>
        thinned(log.series.get(accuracyName(head, k)) ?? []).map(({ step, value }) => ({
          head: runs.length > 1 ? `${name}: head ${head}` : `head ${head}`,
          ...{ top: `top ${k}`, step, value },
        })),
      ),
    ),
  )
  return {
    ...SIZE,
    data: { values },
    encoding: {
      x: STEPS,
      y: {
        ...{ field: 'value', type: 'quantitative', title: 'accuracy, held out' },
        scale: { domain: [0, 1] },
      },
      color: {
        ...{ field: 'top', type: 'ordinal', title: null, sort: TOP.map((k) => `top ${k}`) },
        scale: { scheme: 'viridis' },
      },
      strokeDash: { field: 'head', type: 'nominal', title: null },
    },
  }
}

/** Which metrics are drawn, by what they are called. Of heads each has its own, because their sum says little. */
function curvesOf(log: RunLog): ReadonlyMap<string, string> {
  const heads = Array.from({ length: headsOf(log) }, (_, head) => head)
  if (heads.length === 0) return CURVES
  return new Map(
    heads.flatMap((head) => [
      [`head_${head}_loss`, `training: head ${head}`] as const,
      [`held_out_head_${head}_loss`, `held out: head ${head}`] as const,
    ]),
  )
}

function thinned<T>(points: readonly T[]): readonly T[] {
  const every = Math.ceil(points.length / MAX_POINTS)
  return points.filter((_, index) => index % every === 0 || index === points.length - 1)
}
