import type { BenchCase } from '../../report.ts'
import { type Measured, ratioRow, ratiosOf } from '../measured.ts'
import { answersIn, measureBoth, type Stand, withNode } from '../stand.ts'

/** The reference has 350 requests of a 7B model in flight, which two processors do not decode in the time of a bench. */
const IN_FLIGHT = [16, 64]
const QUICK_IN_FLIGHT = [16]
/** Room for the branches of requests in flight. */
const BRANCHES_EACH = 4
const MOST_BRANCHES = 1024
const MOST = 3

export interface OfConcurrency {
  readonly concurrency: number
  readonly repetitions: readonly (readonly Measured[])[]
}

/** The time of an answer while so many are in flight, with KV memory for all of them. */
export async function concurrency(
  stand: Stand,
  seconds: number,
  inFlight: readonly number[] = stand.quick ? QUICK_IN_FLIGHT : IN_FLIGHT,
): Promise<BenchCase[]> {
  const each = seconds / inFlight.length
  const measured: OfConcurrency[] = []
  for (const concurrency of inFlight) {
    const workload = stand.answers.take(
      Math.max(Math.ceil(1.5 * concurrency), answersIn(stand, each / 2, stand.pace.crowd)),
    )
    const branches = Math.min(MOST_BRANCHES, BRANCHES_EACH * concurrency)
    const load = { part: 'concurrency', workload, concurrency, point: { in_flight: concurrency } }
    const repetitions = await withNode(stand, { holds: 2 * concurrency, maxBranches: branches }, (node) =>
      measureBoth(stand, node, load, { seconds: each, most: MOST }),
    )
    measured.push({ concurrency, repetitions })
  }
  return concurrencyCases(measured)
}

export function concurrencyCases(measured: readonly OfConcurrency[]): BenchCase[] {
  return measured.flatMap(({ concurrency, repetitions }) => {
    const name = `${concurrency} in flight, parallel over serial`
    const row = (
      what: string,
      better: BenchCase['better'],
      goal: number | null,
      of: (measured: Measured) => number | undefined,
    ) => ratioRow(`${name}: ${what}`, ratiosOf(repetitions, ['parallel', 'serial'], of), better, goal)
    return [
      ...row('mean time of an answer', 'lower', 0.65, ({ summary }) => summary.e2e_ms?.mean),
      ...row('p99 of the time of an answer', 'lower', null, ({ summary }) => summary.e2e_ms?.p99),
      ...row('throughput', 'higher', 1, ({ summary }) => summary.requests_per_s),
      ...row('KV peak', 'lower', 1, ({ summary }) => summary.node?.kv_peak),
    ]
  })
}
