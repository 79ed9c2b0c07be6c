import type { BuildStatistics } from '../../training/data/inspect/build-statistics.ts'
import type { Measure } from '../../training/data/inspect/shard-statistics.ts'
import type { Plot } from '../plot/plot.ts'

const BARS = 40
const MOST_RULES = 30
/** Counts are whole numbers: 1, 200, 3k. */
const WHOLE = { tickMinStep: 1, format: '~s' }
const SIZE = { width: 560, height: 260 }

const HISTOGRAMS: readonly { measure: Measure; file: string; title: string; x: string; y: string }[] = [
  {
    measure: 'forks',
    file: 'forks-per-answer',
    title: 'Forks per structured answer',
    x: 'forks',
    y: 'answers',
  },
  { measure: 'depth', file: 'branch-depth', title: 'Depth of branches (root: 1)', x: 'depth', y: 'branches' },
  { measure: 'tokens', file: 'example-tokens', title: 'Tokens per example', x: 'tokens', y: 'examples' },
  {
    measure: 'path',
    file: 'path-tokens',
    title: 'Tokens per path, prompt included',
    x: 'tokens',
    y: 'paths',
  },
  { measure: 'segment', file: 'segment-tokens', title: 'Tokens per segment', x: 'tokens', y: 'segments' },
]

/** The plots of a build by the names of their files; the lengths are those of the training split. */
export function buildPlots(statistics: BuildStatistics): { file: string; plot: Plot }[] {
  const { distributions } = statistics.shards.train
  const lengths = HISTOGRAMS.flatMap(({ measure, file, title, x, y }) => {
    const bars = distributions[measure].histogram(BARS)
    return bars.length === 0 ? [] : [{ file, plot: histogram({ title, x, y }, bars) }]
  })
  const rules = statistics.refused.slice(0, MOST_RULES).flatMap(({ rule, unstructured, leftOut }) => [
    { rule, count: leftOut, answers: 'left out' },
    { rule, count: unstructured, answers: 'kept as unstructured' },
  ])
  return rules.length === 0 ? lengths : [...lengths, { file: 'rules', plot: ruleBars(rules) }]
}

interface Bar {
  from: number
  to: number
  count: number
}

function histogram(names: { title: string; x: string; y: string }, bars: Bar[]): Plot {
  const step = (bars[0]?.to ?? 1) - (bars[0]?.from ?? 0)
  // Bars of single numbers are labelled by them, others by their bounds.
  const x = step === 1 ? { type: 'ordinal' as const } : { bin: { binned: true as const, step } }
  return {
    ...SIZE,
    title: names.title,
    data: { values: bars },
    mark: 'bar',
    encoding: {
      x: { field: 'from', title: names.x, axis: { labelAngle: 0, labelOverlap: true }, ...x },
      ...(step === 1 ? {} : { x2: { field: 'to' } }),
      y: { field: 'count', type: 'quantitative', title: names.y, axis: WHOLE },
    },
  }
}

function ruleBars(values: { rule: string; count: number; answers: string }[]): Plot {
  return {
    width: SIZE.width,
    height: { step: 22 },
    title: 'Answers that rules refused as structured',
    data: { values },
    mark: 'bar',
    encoding: {
      y: { field: 'rule', type: 'nominal', sort: null, title: null },
      x: { field: 'count', type: 'quantitative', title: 'answers', axis: WHOLE },
      color: { field: 'answers', type: 'nominal', title: null, legend: { orient: 'bottom' } },
    },
  }
}
