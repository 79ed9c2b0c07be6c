import { percentile } from '../../percentile.ts'
import type { ClientHealth } from '../load/client-watch.ts'
import type { NodeFigures } from '../load/node-metrics.ts'
import { type CellSettings, type Sample, timePerToken } from '../load/sample.ts'
import type { Cell } from '../run-serving.ts'

/** Limits that a request must keep to count as good; null: none. */
export interface ServiceLevel {
  readonly ttft_ms: number | null
  readonly tpot_ms: number | null
}

export interface Distribution {
  readonly mean: number
  readonly p50: number
  readonly p90: number
  readonly p95: number
  readonly p99: number
}

export interface CellSummary extends CellSettings {
  readonly requests: number
  readonly completed: number
  /** Failed requests by code. */
  readonly errors: Readonly<Record<string, number>>
  readonly duration_s: number
  /** Of completed requests. */
  readonly requests_per_s: number
  readonly output_tokens_per_s: number
  /** Of completed requests; prompts as the target counted them. */
  readonly prompt_tokens: number
  readonly cached_tokens: number
  readonly output_tokens: number
  /** Completed requests whose target counted no tokens: their pieces of text are counted. */
  readonly uncounted: number
  /** In ms, of completed requests. null of nothing. */
  readonly ttft_ms: Distribution | null
  readonly tpot_ms: Distribution | null
  /** Between pieces of text, of which each may have several tokens. */
  readonly itl_ms: Distribution | null
  readonly e2e_ms: Distribution | null
  /** From the due time to the sending, while `concurrency` made requests wait. */
  readonly wait_ms: Distribution | null
  /** Requests within the service level, of all; null without one. */
  readonly goodput: { readonly share: number; readonly requests_per_s: number } | null
  readonly client: ClientHealth
  readonly node: NodeFigures | null
}

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
  return {
    ...settings,
    ...{ requests: samples.length, completed: completed.length, errors, duration_s: seconds },
    requests_per_s: perSecond(completed.length, seconds),
    output_tokens_per_s: perSecond(outputTokens, seconds),
    prompt_tokens: total(({ prompt_tokens }) => prompt_tokens ?? 0),
    cached_tokens: total(({ cached_tokens }) => cached_tokens ?? 0),
    output_tokens: outputTokens,
    uncounted: completed.filter(({ counted }) => !counted).length,
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
    ...{ client, node: node ?? null },
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
