import type { BenchCase } from '../../report.ts'
import { type Measured, ratioRow, ratiosOf } from '../measured.ts'
import { answersIn, measure, type Stand, withNode } from '../stand.ts'
import { inTurns } from '../turns.ts'

const IN_FLIGHT = 16
/** Few requests each time: the machine changes its speed between two runs that follow each other late. */
const RUN_SECONDS = 8
const MOST = 50

/** Parallel decoding of answers with a trace of every step, against the same without, in turn on one node. */
export async function recorder(stand: Stand, seconds: number): Promise<BenchCase[]> {
  const workload = stand.answers.take(Math.max(IN_FLIGHT, answersIn(stand, RUN_SECONDS, stand.pace.crowd)))
  const repetitions = await withNode(stand, { holds: 2 * IN_FLIGHT }, (node) =>
    inTurns(
      [false, true].map(
        (traced) => (repetition) =>
          measure(
            stand,
            { name: traced ? 'with traces' : 'without', node, mode: 'parallel', traced },
            { part: 'recorder', workload, concurrency: IN_FLIGHT, repetition },
          ),
      ),
      { seconds, most: MOST },
    ),
  )
  return recorderCases(repetitions)
}

export function recorderCases(repetitions: readonly (readonly Measured[])[]): BenchCase[] {
  const ratios = (of: (measured: Measured) => number | undefined) =>
    ratiosOf(repetitions, ['with traces', 'without'], of)
  const name = `traces, of the same without, ${IN_FLIGHT} in flight`
  return [
    ...ratioRow(
      `${name}: throughput`,
      ratios(({ summary }) => summary.output_tokens_per_s),
      'higher',
      0.99,
    ),
    ...ratioRow(
      `${name}: processor time of a token`,
      ratios(({ processorUs }) => processorUs),
      'lower',
      1.01,
    ),
  ]
}
