import type { NodeReading } from '../../cli/bench/serving/load/node-metrics.ts'
import { type Sample, timePerToken } from '../../cli/bench/serving/load/sample.ts'
import type { CellSummary } from '../../cli/bench/serving/report/summary.ts'
import { type BenchCase, median, ratioCase } from '../report.ts'

/** A request of a replay. Its prompt and text are those of the data set. */
export interface BriefSample {
  readonly id: string
  readonly sent_ms: number
  readonly ttft_ms: number | null
  readonly e2e_ms: number
  readonly tpot_ms: number | null
  readonly prompt_tokens: number | null
  readonly output_tokens: number
}

/** One way to decode under one load, measured once. */
export interface Measured {
  readonly way: string
  readonly summary: CellSummary
  readonly samples: readonly BriefSample[]
  /** Answers that the node made per second while others waited for their place; undefined where none had to. */
  readonly waitingRate: number | undefined
  /** Of the gpu node's process, in µs for each token. */
  readonly processorUs: number | undefined
}

export function brief(sample: Sample): BriefSample {
  const { id, sent_ms, ttft_ms, e2e_ms, prompt_tokens, output_tokens } = sample
  return { id, sent_ms, ttft_ms, e2e_ms, tpot_ms: timePerToken(sample) ?? null, prompt_tokens, output_tokens }
}

/** Tokens decoded per second between the first and the last reading with a queue; undefined without a queue. */
export function tokensPerSecondWhileWaiting(readings: readonly NodeReading[]): number | undefined {
  const waiting = readings.filter(({ waiting_requests = 0 }) => waiting_requests > 0)
  const [first, last] = [waiting.at(0), waiting.at(-1)]
  if (!first || !last || first === last) return undefined
  const tokens = (last.generated_tokens ?? 0) - (first.generated_tokens ?? 0)
  return (1000 * tokens) / (last.at_ms - first.at_ms)
}

/** `way` over `base` within each repetition; repetitions in which one of the two has no figure are left out. */
export function ratiosOf(
  repetitions: readonly (readonly Measured[])[],
  [way, base]: readonly [string, string],
  of: (measured: Measured) => number | undefined,
): number[] {
  return repetitions.flatMap((repetition) => {
    const [one, other] = [way, base].map((name) => {
      const measured = repetition.find((each) => each.way === name)
      return measured && of(measured)
    })
    const ratio = (one ?? Number.NaN) / (other ?? Number.NaN)
    return Number.isFinite(ratio) ? [ratio] : []
  })
}

/** A row of ratios; none where nothing could be measured. */
export function ratioRow(
  name: string,
  ratios: readonly number[],
  better: BenchCase['better'],
  goal: number | null,
): BenchCase[] {
  return ratios.length === 0 ? [] : [ratioCase(name, ratios, better, goal)]
}

/** A row of values that were measured; none where there are none. */
export function valueRow(
  name: string,
  values: readonly number[],
  { unit, better, goal }: Pick<BenchCase, 'unit' | 'better' | 'goal'>,
): BenchCase[] {
  if (values.length === 0) return []
  const round = (value: number) => Number(value.toPrecision(4))
  const spread = { low: round(Math.min(...values)), high: round(Math.max(...values)) }
  return [{ case: name, value: round(median(values)), unit, better, goal, ...spread }]
}
