import type { CellSummary } from '../../../cli/bench/serving/report/summary.ts'
import type { BenchCase } from '../../report.ts'
import { type Measured, ratioRow, ratiosOf, valueRow } from '../measured.ts'
import { answersIn, measure, type Stand, type Way, withNode } from '../stand.ts'
import { inTurns } from '../turns.ts'

/** Of the rate at which serial decoding is saturated. */
const RATES = [0.8, 1, 1.2]
const QUICK_RATES = [0.8, 1.2]
/** The goal against always-fork is for this one. */
const OVERLOAD = 1.2
/** Places in the batch: few, that a node is saturated after seconds. */
const MAX_BRANCHES = 16
/** Of the saturated node's mean time per token, serially: a batch of serial answers keeps it. */
const DEADLINE = 1.25
/** The first token may take as long as so many others. */
const TTFT_TOKENS = 25
/** The node's deadline for the first token, of the client's: the rest is for the way, and for longer steps than the last one. */
const AT_THE_NODE = 0.9
/** Saturated: so often as many requests as places. */
const TIMES_PLACES = 3
/** Enough steps for the step time that the policy fits. */
const WARM_UP = { requests: 2 * MAX_BRANCHES, maxTokens: 64 }
/** Share of a part's time to find the rate, and of each measurement that requests arrive in; then the last ones end. */
const FINDING = 0.2
const ARRIVING = 0.7
const LEAST_REQUESTS = 10
const MOST = 3

export interface OfRate {
  /** Of the serial saturation rate. */
  readonly share: number
  readonly repetitions: readonly (readonly Measured[])[]
}

/** Requests that keep their deadlines: the policy `deadline` against always forking and against serial decoding. */
export async function deadline(stand: Stand, seconds: number): Promise<BenchCase[]> {
  const limits = { holds: 3 * MAX_BRANCHES, maxBranches: MAX_BRANCHES }
  const shares = stand.quick ? QUICK_RATES : RATES
  return await withNode(stand, limits, async (eager) => {
    const ways: Way[] = [
      { name: 'eager', node: eager, mode: 'parallel' },
      { name: 'serial', node: eager, mode: 'serial' },
    ]
    const found = await saturate(stand, ways[1] as Way, FINDING * seconds)
    const { rate: saturated, level } = found
    stand.log(
      `deadline: serial decoding is saturated at ${saturated.toFixed(2)} requests/s; a token is due every ${level.tpot_ms?.toFixed(1)} ms, the first one after ${level.ttft_ms?.toFixed(0)} ms`,
    )
    const more = [
      ...['--policy', 'deadline', '--token-deadline-ms', String(level.tpot_ms)],
      ...['--first-token-deadline-ms', String(AT_THE_NODE * level.ttft_ms)],
    ]
    return await withNode(stand, { ...limits, more }, async (node) => {
      ways.unshift({ name: 'deadline', node, mode: 'parallel' })
      for (const way of ways.filter(({ mode }) => mode === 'parallel')) await warmUp(stand, way)
      const each = ((1 - FINDING) * seconds) / shares.length
      const measured: OfRate[] = []
      for (const share of shares) {
        const rate = share * saturated
        const arriving = Math.floor(rate * ARRIVING * (each / ways.length))
        const load = {
          ...{ part: 'deadline', workload: stand.answers.take(Math.max(LEAST_REQUESTS, arriving)) },
          ...{ rate, level, point: { share } },
        }
        const repetitions = await inTurns(
          ways.map((way) => (repetition) => measure(stand, way, { ...load, repetition })),
          { seconds: each, most: MOST },
        )
        measured.push({ share, repetitions })
      }
      return deadlineCases(saturated, measured)
    })
  })
}

/** The rate of serial answers with a full batch, and deadlines that this batch keeps. */
async function saturate(
  stand: Stand,
  way: Way,
  seconds: number,
): Promise<{ rate: number; level: { tpot_ms: number; ttft_ms: number } }> {
  const count = Math.max(TIMES_PLACES * MAX_BRANCHES, answersIn(stand, seconds, stand.pace.crowd))
  const { summary, waitingRate } = await measure(stand, way, {
    ...{ part: 'deadline-saturation', workload: stand.answers.take(count), repetition: 0 },
  })
  const tpot_ms = Number((DEADLINE * serialTokenMs(summary)).toPrecision(3))
  return {
    rate: waitingRate ?? summary.requests_per_s,
    level: { tpot_ms, ttft_ms: TTFT_TOKENS * tpot_ms },
  }
}

/** No less than the time of a step: a client that is late receives many tokens at once. */
export function serialTokenMs({ tpot_ms, duration_s, node }: CellSummary): number {
  const perToken = Math.max(tpot_ms?.p50 ?? 0, node?.steps ? (1000 * duration_s) / node.steps : 0)
  if (perToken === 0) throw new Error('the node made no step')
  return perToken
}

async function warmUp(stand: Stand, way: Way): Promise<void> {
  const { requests, maxTokens } = WARM_UP
  const workload = stand.answers.take(requests)
  await measure(stand, way, { part: 'deadline-warm-up', workload, maxTokens, repetition: 0 })
}

export function deadlineCases(saturated: number, measured: readonly OfRate[]): BenchCase[] {
  const against = (base: string) =>
    measured.map(({ share, repetitions }) => ({
      share,
      ratios: ratiosOf(repetitions, ['deadline', base], goodput),
    }))
  const serially = against('serial')
  const worst = serially.flatMap(({ ratios }) => ratios)
  const at = (share: number) => `deadline at ${share} of the serial saturation`
  return [
    ...valueRow(`serial saturation, ${MAX_BRANCHES} places in the batch`, [saturated], {
      ...{ unit: 'requests/s', better: 'higher', goal: null },
    }),
    ...measured
      .flatMap(({ share, repetitions }) =>
        ['deadline', 'eager', 'serial'].map((name) => {
          const of = repetitions.flat().filter(({ way }) => way === name)
          return valueRow(
            `goodput at ${share} of the serial saturation, ${name}`,
            of.map(({ summary }) => summary.goodput?.requests_per_s ?? 0),
            { unit: 'requests/s', better: 'higher', goal: null },
          )
        }),
      )
      .flat(),
    ...against('eager').flatMap(({ share, ratios }) =>
      ratioRow(`${at(share)}: goodput over always-fork`, ratios, 'higher', share === OVERLOAD ? 1.5 : null),
    ),
    ...serially.flatMap(({ share, ratios }) =>
      ratioRow(`${at(share)}: goodput over serial`, ratios, 'higher', 1),
    ),
    ...valueRow(
      'deadline: goodput over serial, the least of all',
      worst.length > 0 ? [Math.min(...worst)] : [],
      {
        ...{ unit: 'x', better: 'higher', goal: 1 },
      },
    ),
  ]
}

/** Good requests per second. Where none was good, as if one had been: the ratio is at least that large. */
function goodput({ summary }: Measured): number {
  return Math.max(summary.goodput?.requests_per_s ?? 0, 1 / summary.duration_s)
}
