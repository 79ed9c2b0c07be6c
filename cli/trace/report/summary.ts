import type { RunSettings } from '../run-folder.ts'
import type { Mode } from '../trace-file.ts'
import { sum, type TurnFigures } from './measure.ts'

/** Of the answers of one mode. Means are null of nothing. */
export interface ModeSummary {
  readonly answers: number
  readonly tokens: number
  readonly steps: number
  readonly seconds: number
  readonly tokens_per_step: number | null
  readonly ms_per_token: number | null
  /** Tokens that a token behind the first one attends to: the mean. */
  readonly attended_per_token: number | null
  /** The most KV blocks, and tokens in them, that an answer had at a time: the mean over the answers. */
  readonly peak_blocks: number | null
  readonly peak_cached_tokens: number | null
  /** Of the tokens of prompt and answer, those that were cached at the peak: 1 for a serial answer. */
  readonly peak_cached_share: number | null
  readonly drafted: number
  readonly accepted: number
}

export interface BranchSummary {
  /** Share of the parallel answers that fork. */
  readonly forking: number | null
  /** Of a forking answer, the mean. */
  readonly forks: number | null
  readonly most_live: number
  readonly max_depth: number
  /** Parallel answers by number of branches. */
  readonly answers_by_branches: Readonly<Record<string, number>>
}

/** Serial against parallel, for the turns that both have answered; above 1, parallel is better. */
export interface Comparison {
  readonly answers: number
  /** Tokens per step. */
  readonly steps: number | null
  /** Time of an answer in the engine; answers differ in length. */
  readonly wall_clock: number | null
  readonly wall_clock_per_token: number | null
  /** Parallel over serial: below 1, parallel attends to less, and has fewer blocks. */
  readonly attended_per_token: number | null
  readonly peak_blocks: number | null
  readonly peak_cached_share: number | null
}

export interface GroupSummary {
  readonly category: string
  readonly parallel: ModeSummary
  readonly serial: ModeSummary
  readonly branches: BranchSummary
  readonly speedup: Comparison
}

export interface RunReport {
  readonly folder: string
  readonly run: RunSettings
  readonly categories: readonly GroupSummary[]
  readonly all: GroupSummary
  /** Turns that were refused, in both modes, by the code of the error: they are in no figure. */
  readonly refused: Readonly<Record<string, number>>
  /** Other requests had rows in the steps: times are those of shared steps. */
  readonly shared_steps: boolean
}

/** The report of one folder; categories in the order in which they first appear. */
export function summarise(
  folder: string,
  run: RunSettings,
  figures: readonly TurnFigures[],
  refused: Readonly<Record<string, number>> = {},
): RunReport {
  const categories = [...new Set(figures.map(({ category }) => category))]
  return {
    ...{ folder, run },
    categories: categories.map((each) =>
      group(
        each,
        figures.filter(({ category }) => category === each),
      ),
    ),
    all: group('all', figures),
    refused,
    shared_steps: figures.some(({ otherRows }) => otherRows > 0),
  }
}

function group(category: string, figures: readonly TurnFigures[]): GroupSummary {
  const of = (mode: Mode) => figures.filter((each) => each.mode === mode)
  const [parallel, serial] = [of('parallel'), of('serial')]
  const answered = new Set(serial.map(keyOf))
  const both = new Set(parallel.map(keyOf).filter((key) => answered.has(key)))
  const inBoth = (each: TurnFigures) => both.has(keyOf(each))
  return {
    category,
    parallel: modeSummary(parallel),
    serial: modeSummary(serial),
    branches: branchSummary(parallel),
    speedup: compare(modeSummary(parallel.filter(inBoth)), modeSummary(serial.filter(inBoth))),
  }
}

function keyOf({ id, turn }: TurnFigures): string {
  return `${turn}/${id}`
}

function modeSummary(figures: readonly TurnFigures[]): ModeSummary {
  const tokens = sum(figures, (each) => each.tokens)
  const steps = sum(figures, (each) => each.steps)
  const us = sum(figures, (each) => each.us)
  const answers = figures.length
  return {
    ...{ answers, tokens, steps, seconds: us / 1e6 },
    tokens_per_step: ratio(tokens, steps),
    ms_per_token: ratio(us / 1000, tokens),
    attended_per_token: ratio(
      sum(figures, (each) => each.attended),
      sum(figures, (each) => each.later),
    ),
    peak_blocks: ratio(
      sum(figures, (each) => each.mostBlocks),
      answers,
    ),
    peak_cached_tokens: ratio(
      sum(figures, (each) => each.mostCached),
      answers,
    ),
    peak_cached_share: ratio(
      sum(figures, (each) => each.mostCached),
      sum(figures, (each) => each.whole),
    ),
    drafted: sum(figures, (each) => each.drafted),
    accepted: sum(figures, (each) => each.accepted),
  }
}

function branchSummary(parallel: readonly TurnFigures[]): BranchSummary {
  const forking = parallel.filter(({ branches }) => branches > 1)
  const counts = parallel.map(({ branches }) => branches).sort((a, b) => a - b)
  const byBranches: Record<string, number> = {}
  for (const count of counts) byBranches[count] = (byBranches[count] ?? 0) + 1
  return {
    forking: ratio(forking.length, parallel.length),
    forks: ratio(
      sum(forking, ({ branches }) => branches - 1),
      forking.length,
    ),
    most_live: Math.max(0, ...parallel.map(({ mostLive }) => mostLive)),
    max_depth: Math.max(0, ...parallel.map(({ depth }) => depth)),
    answers_by_branches: byBranches,
  }
}

function compare(parallel: ModeSummary, serial: ModeSummary): Comparison {
  return {
    answers: parallel.answers,
    steps: ratio(parallel.tokens_per_step, serial.tokens_per_step),
    wall_clock: ratio(serial.seconds, parallel.seconds),
    wall_clock_per_token: ratio(serial.ms_per_token, parallel.ms_per_token),
    attended_per_token: ratio(parallel.attended_per_token, serial.attended_per_token),
    peak_blocks: ratio(parallel.peak_blocks, serial.peak_blocks),
    peak_cached_share: ratio(parallel.peak_cached_share, serial.peak_cached_share),
  }
}

/** null of nothing. */
function ratio(part: number | null, whole: number | null): number | null {
  return part === null || !whole ? null : part / whole
}
