import { z } from 'zod'
import { percentile } from '../../percentile.ts'
import { type Sample, timePerToken } from '../load/sample.ts'
import type { Cell } from '../run-serving.ts'

/** Limits that a request must keep to count as good; null: none. */
export interface ServiceLevel {
  readonly ttft_ms: number | null
  readonly tpot_ms: number | null
}

const number = z.number()
const Distribution = z.object({ mean: number, p50: number, p90: number, p95: number, p99: number })
export type Distribution = z.infer<typeof Distribution>

/** A row of a report; also a line of `--out`. */
export const CellSummary = z.object({
  /** Name of the run, in a report of several. */
  run: z.string().optional(),
  mode: z.string(),
  rate: number.nullable(),
  concurrency: number.nullable(),
  /** Limits of the node, where they were swept, by the names of its options. */
  limits: z.record(z.string(), number).optional(),
  requests: number,
  completed: number,
  /** Failed requests by code. */
  errors: z.record(z.string(), number),
  duration_s: number,
  /** Of completed requests. */
  requests_per_s: number,
  output_tokens_per_s: number,
  /** Of completed requests; prompts as the target counted them. */
  prompt_tokens: number,
  cached_tokens: number,
  output_tokens: number,
  /** Completed requests whose target counted no tokens: their pieces of text are counted. */
  uncounted: number,
  /** Completed requests whose answer has fewer tokens than it was to have exactly; absent without any. */
  shorter: number.optional(),
  /** In ms, of completed requests. null of nothing. */
  ttft_ms: Distribution.nullable(),
  tpot_ms: Distribution.nullable(),
  /** Between pieces of text, of which each may have several tokens. */
  itl_ms: Distribution.nullable(),
  e2e_ms: Distribution.nullable(),
  /** From the due time to the sending, while `concurrency` made requests wait. */
  wait_ms: Distribution.nullable(),
  /** Requests within the service level, of all; null without one. */
  goodput: z.object({ share: number, requests_per_s: number }).nullable(),
  client: z.object({
    loop_late_p99_ms: number,
    loop_late_max_ms: number,
    sent_late_p99_ms: number,
    cpu: number,
    late: z.boolean(),
  }),
  /** Names as in NodeFigures. */
  node: z.record(z.string(), number).nullable(),
})
export type CellSummary = z.infer<typeof CellSummary>

/** The figures of a cell. Percentiles are values that were measured (nearest rank). */
export function summariseCell(
  { settings, samples, durationMs, client, node }: Cell,
  level: ServiceLevel,
): CellSummary {
  const completed = samples.filter(({ error }) => error === null)
  const seconds = durationMs / 1000
  const total = (of: (sample: Sample) => number) => completed.reduce((sum, sample) => sum + of(sample), 0)
  const outputTokens = total(({ output_tokens }) => output_tokens)
  const errors: Record<string, number> = {}
  for (const { error } of samples) if (error !== null) errors[error] = (errors[error] ?? 0) + 1
  const good = completed.filter((sample) => isGood(sample, level)).length
  const shorter = completed.filter(
    ({ counted, output_tokens, asked_tokens = 0 }) => counted && output_tokens < asked_tokens,
  ).length
  return {
    ...settings,
    ...{ requests: samples.length, completed: completed.length, errors, duration_s: seconds },
    requests_per_s: perSecond(completed.length, seconds),
    output_tokens_per_s: perSecond(outputTokens, seconds),
    prompt_tokens: total(({ prompt_tokens }) => prompt_tokens ?? 0),
    cached_tokens: total(({ cached_tokens }) => cached_tokens ?? 0),
    output_tokens: outputTokens,
    uncounted: completed.filter(({ counted }) => !counted).length,
    ...(shorter > 0 && { shorter }),
    ttft_ms: distribution(completed.flatMap(({ ttft_ms }) => ttft_ms ?? [])),
    tpot_ms: distribution(completed.flatMap((sample) => timePerToken(sample) ?? [])),
    itl_ms: distribution(completed.flatMap(({ gaps_ms }) => gaps_ms)),
    e2e_ms: distribution(completed.map(({ e2e_ms }) => e2e_ms)),
    wait_ms:
      settings.concurrency === null
        ? null
        : distribution(samples.map((each) => Math.max(0, each.sent_ms - each.due_ms))),
    goodput:
      level.ttft_ms === null && level.tpot_ms === null
        ? null
        : { share: good / samples.length, requests_per_s: perSecond(good, seconds) },
    client,
    node: node ? { ...node } : null,
  }
}

/** Without text there is no first token; an answer of one token has no time between tokens. */
function isGood(sample: Sample, { ttft_ms, tpot_ms }: ServiceLevel): boolean {
  if (ttft_ms !== null && (sample.ttft_ms === null || sample.ttft_ms > ttft_ms)) return false
  return tpot_ms === null || (timePerToken(sample) ?? 0) <= tpot_ms
}

function distribution(values: readonly number[]): Distribution | null {
  if (values.length === 0) return null
  const [p50, p90, p95, p99] = [50, 90, 95, 99].map((percent) => percentile(values, percent))
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length
  return { mean, p50: p50 ?? mean, p90: p90 ?? mean, p95: p95 ?? mean, p99: p99 ?? mean }
}

function perSecond(count: number, seconds: number): number {
  return seconds > 0 ? count / seconds : 0
}
