import type { Mode } from '../modes.ts'
import type { NodeLimits } from '../sweep.ts'

/** What one part of a run has: every combination is measured. */
export interface CellSettings {
  readonly mode: Mode
  /** Requests a second; null: all at once, or as recorded. */
  readonly rate: number | null
  /** Most requests in flight; null: no limit. */
  readonly concurrency: number | null
  /** Limits of the node, where they are swept. */
  readonly limits?: NodeLimits | undefined
}

/** For people: the mode, and what is limited. */
export function labelOf({
  mode,
  rate,
  concurrency,
  limits = {},
}: Omit<CellSettings, 'mode'> & { readonly mode: string }): string {
  const parts = [
    mode,
    ...Object.entries(limits).map(([name, value]) => `${name} ${value}`),
    ...(rate === null ? [] : [`${rate} requests/s`]),
    ...(concurrency === null ? [] : [`${concurrency} in flight`]),
  ]
  return parts.join(', ')
}

/** One request as it was measured. Times are in ms; those of the run count from the cell's begin. */
export interface Sample {
  readonly id: string
  /** When it was due, and when it was sent: later where `concurrency` made it wait. */
  readonly due_ms: number
  readonly sent_ms: number
  /** From sending it. null without any text. */
  readonly ttft_ms: number | null
  /** From sending it to its end or its failure. */
  readonly e2e_ms: number
  /** Between pieces of text that followed each other. */
  readonly gaps_ms: readonly number[]
  /** null where the target counts nothing. */
  readonly prompt_tokens: number | null
  readonly cached_tokens: number | null
  readonly output_tokens: number
  /** Of an answer that was to have exactly so many. */
  readonly asked_tokens?: number | undefined
  /** Whether the target counted the tokens; else pieces of text were. */
  readonly counted: boolean
  readonly finish: string | null
  /** Code of the failure. */
  readonly error: string | null
  readonly message: string | null
  /** Of requests that asked for it: from their acceptance by the engine to the end of each step, in ms. */
  readonly steps_ms?: readonly number[] | undefined
  readonly prompt: string
  readonly text: string
}

/** Time per output token behind the first one, in ms; undefined for an answer of one token. */
export function timePerToken({ ttft_ms, gaps_ms, output_tokens }: Sample): number | undefined {
  if (ttft_ms === null || output_tokens < 2) return undefined
  return gaps_ms.reduce((sum, gap) => sum + gap, 0) / (output_tokens - 1)
}
