import type { BenchCase } from '../../report.ts'
import { type Measured, ratioRow, ratiosOf, valueRow } from '../measured.ts'
import { answersIn, blocksOf, measureBoth, type Stand, withNode } from '../stand.ts'

/** The KV memory holds about so many serial requests: the goal is for memory that limits how many run. */
const HELD = [8, 16, 32]
const QUICK_HELD = [8]
/** So often as many requests as the memory holds, that most of the time some wait. */
const TIMES_HELD = 3
const MOST = 3

/** What was measured with one size of the KV memory. */
export interface OfSize {
  readonly blocks: number
  readonly repetitions: readonly (readonly Measured[])[]
}

/** All requests at once, with so little KV memory that most wait: answers per second of the same memory. */
export async function saturation(stand: Stand, seconds: number): Promise<BenchCase[]> {
  const held = stand.quick ? QUICK_HELD : HELD
  const each = seconds / held.length
  const sizes: OfSize[] = []
  for (const requests of held) {
    const blocks = blocksOf(stand, requests)
    // A smaller batch decodes slower than that of the pace.
    const affordable = answersIn(stand, each / 2, stand.pace.crowd / 2)
    const workload = stand.answers.take(Math.max(TIMES_HELD * requests, affordable))
    const load = { part: 'saturation', workload, point: { blocks } }
    const repetitions = await withNode(stand, { holds: requests }, (node) =>
      measureBoth(stand, node, load, { seconds: each, most: MOST }),
    )
    sizes.push({ blocks, repetitions })
  }
  return saturationCases(sizes)
}

export function saturationCases(sizes: readonly OfSize[]): BenchCase[] {
  const name = 'saturation, parallel over serial'
  const of = ({ repetitions }: OfSize, figure: (measured: Measured) => number | undefined) =>
    ratiosOf(repetitions, ['parallel', 'serial'], figure)
  const wholeRun = ({ summary }: Measured) => summary.requests_per_s
  const worst = sizes.flatMap((size) => of(size, wholeRun))
  return [
    ...sizes.flatMap((size) => [
      ...ratioRow(`${name}, ${size.blocks} KV blocks: throughput`, of(size, wholeRun), 'higher', 1.3),
      ...ratioRow(
        `${name}, ${size.blocks} KV blocks: throughput while requests wait`,
        of(size, ({ waitingRate }) => waitingRate),
        'higher',
        1.3,
      ),
      ...ratioRow(
        `${name}, ${size.blocks} KV blocks: KV peak`,
        of(size, ({ summary }) => summary.node?.kv_peak),
        'lower',
        1,
      ),
    ]),
    ...valueRow(`${name}: throughput, the least of all`, worst.length > 0 ? [Math.min(...worst)] : [], {
      ...{ unit: 'x', better: 'higher', goal: 1 },
    }),
  ]
}
