import type { Plot } from '../../plot/plot.ts'
import type { TurnFigures } from './measure.ts'
import type { RunReport } from './summary.ts'

const SIZE = { width: 560, height: 260 }
/** Points of the time line: steps are put together so that there are no more. */
const POINTS = 200

/** The plots of a report by the names of their files; none of what has no data. */
export function reportPlots(
  { categories, all, run }: RunReport,
  figures: readonly TurnFigures[],
): { file: string; plot: Plot }[] {
  const subtitle = `${run.dataset}, ${run.model}`
  const groups = categories.length > 1 ? [...categories, all] : [all]
  const speeds = groups.flatMap(({ category, speedup }) => [
    { category, value: speedup.steps, of: 'tokens per step' },
    { category, value: speedup.wall_clock_per_token, of: 'wall-clock per token' },
  ])
  const memory = groups.flatMap(({ category, speedup }) => [
    { category, value: speedup.attended_per_token, of: 'attended tokens' },
    { category, value: speedup.peak_blocks, of: 'peak KV blocks' },
  ])
  const branches = Object.entries(all.branches.answers_by_branches).map(([count, answers]) => ({
    branches: Number(count),
    answers,
  }))
  return [
    ...bars('speed-up', { text: 'Speed-up of parallel decoding', subtitle }, 'times serial', speeds),
    ...bars('memory', { text: 'Attention and KV cache of parallel decoding', subtitle }, 'of serial', memory),
    ...(branches.length === 0 ? [] : [{ file: 'branches', plot: branchBars(branches, subtitle) }]),
    ...timeLine(figures, subtitle),
  ]
}

interface Bar {
  readonly category: string
  readonly value: number | null
  readonly of: string
}

function bars(file: string, title: { text: string; subtitle: string }, y: string, all: readonly Bar[]) {
  const values = all.filter(({ value }) => value !== null)
  if (values.length === 0) return []
  const categories = [...new Set(values.map(({ category }) => category))]
  const plot: Plot = {
    ...SIZE,
    title,
    data: { values },
    layer: [
      {
        mark: 'bar',
        encoding: {
          x: { field: 'category', type: 'nominal', title: null, sort: categories, axis: { labelAngle: -30 } },
          xOffset: { field: 'of', sort: null },
          y: { field: 'value', type: 'quantitative', title: y },
          color: { field: 'of', type: 'nominal', title: null, sort: null },
        },
      },
      { mark: { type: 'rule', strokeDash: [4, 4] }, encoding: { y: { datum: 1 } } },
    ],
  }
  return [{ file, plot }]
}

function branchBars(values: { branches: number; answers: number }[], subtitle: string): Plot {
  return {
    ...SIZE,
    title: { text: 'Branches per answer', subtitle },
    data: { values },
    mark: 'bar',
    encoding: {
      x: {
        field: 'branches',
        type: 'ordinal',
        title: 'branches, the root included',
        axis: { labelAngle: 0 },
      },
      y: { field: 'answers', type: 'quantitative', axis: { tickMinStep: 1, format: '~s' } },
    },
  }
}

/** Live branches over the steps of an answer: the mean over the parallel answers that last so long, and how many do. */
function timeLine(figures: readonly TurnFigures[], subtitle: string): { file: string; plot: Plot }[] {
  const parallel = figures.filter(({ mode }) => mode === 'parallel')
  const length = parallel.reduce((most, { live }) => Math.max(most, live.length), 0)
  const stride = Math.max(1, Math.ceil(length / POINTS))
  const values = Array.from({ length: Math.ceil(length / stride) }, (_, point) => {
    const step = point * stride
    const running = parallel.filter(({ live }) => live.length > step)
    const live = running.reduce((total, each) => total + (each.live[step] ?? 0), 0) / running.length
    return { step, live }
  })
  if (values.length === 0) return []
  const plot: Plot = {
    ...SIZE,
    title: { text: 'Live branches over an answer', subtitle },
    data: { values },
    mark: { type: 'line', interpolate: 'step-after' },
    encoding: {
      x: { field: 'step', type: 'quantitative', title: 'step of the answer' },
      y: { field: 'live', type: 'quantitative', title: 'live branches, mean' },
    },
  }
  return [{ file: 'time-line', plot }]
}
