import type { BenchCase } from '../../report.ts'
import type { ReplayedAnswers } from '../answers.ts'
import { type Measured, ratioRow, ratiosOf } from '../measured.ts'
import { answersIn, measureBoth, type Stand, withNode } from '../stand.ts'

const MOST = 5
/** Parallel decoding takes about so much of the serial time: for the number of answers. */
const PARALLEL_SHARE = 0.6
const LEAST_ANSWERS = 4
/** More than enough for the longest one. */
const HOLDS = 16

/** One request at a time: how long answers take that fork, against the same answers in one branch. */
export async function lowLoad(stand: Stand, seconds: number): Promise<BenchCase[]> {
  const each = seconds / (stand.quick ? 1 : 3) / (1 + PARALLEL_SHARE)
  const workload = stand.answers.take(Math.max(LEAST_ANSWERS, answersIn(stand, each, stand.pace.alone)))
  const load = { part: 'low-load', workload, concurrency: 1 }
  const repetitions = await withNode(stand, { holds: HOLDS }, (node) =>
    measureBoth(stand, node, load, { seconds, most: MOST }),
  )
  return lowLoadCases(repetitions, stand.answers)
}

export function lowLoadCases(
  repetitions: readonly (readonly Measured[])[],
  answers: Pick<ReplayedAnswers, 'forks'>,
): BenchCase[] {
  const ratios = (of: (measured: Measured) => number | undefined) =>
    ratiosOf(repetitions, ['parallel', 'serial'], of)
  const timeOf =
    (counts: (id: string) => boolean) =>
    ({ samples }: Measured) =>
      samples.filter(({ id }) => counts(id)).reduce((sum, { e2e_ms }) => sum + e2e_ms, 0)
  const name = 'low load, parallel over serial'
  return [
    ...ratioRow(`${name}: wall-clock`, ratios(timeOf(() => true)), 'lower', 0.5),
    ...ratioRow(
      `${name}: wall-clock of answers that fork`,
      ratios(timeOf((id) => answers.forks(id))),
      'lower',
      null,
    ),
    ...ratioRow(
      `${name}: wall-clock of the others`,
      ratios(timeOf((id) => !answers.forks(id))),
      'lower',
      null,
    ),
    ...ratioRow(
      `${name}: steps`,
      ratios(({ summary }) => summary.node?.steps),
      'lower',
      null,
    ),
    ...ratioRow(
      `${name}: KV peak`,
      ratios(({ summary }) => summary.node?.kv_peak),
      'lower',
      1,
    ),
  ]
}
