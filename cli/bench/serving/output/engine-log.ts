import type { NodeReading } from '../load/node-metrics.ts'

const EVERY_MS = 3000

/** A line of the engine log of the reference (THUDM/APAR, vllm/vllm/engine/llm_engine.py). */
export interface EngineLogLine {
  /** Tokens per second since the line before. */
  readonly prompt_throughput: number
  readonly generation_throughput: number
  /** Requests in the batch. */
  readonly running: number
  /** Branches whose KV blocks were taken from them. The reference copies those of whole requests to the host. */
  readonly swapped: number
  /** Requests that wait. */
  readonly pending: number
  /** Share of the KV blocks in use, 0 to 1. */
  readonly gpu_cache_usage: number
  /** There is no swap space. */
  readonly cpu_cache_usage: number
}

/** The first reading of a load, and every 3 s another one. The reading before the load makes no line. */
export function engineLog([before, ...readings]: readonly NodeReading[]): EngineLogLine[] {
  const lines: EngineLogLine[] = []
  let last = before
  for (const reading of readings) {
    if (lines.length > 0 && reading.at_ms - (last?.at_ms ?? 0) < EVERY_MS) continue
    lines.push({
      prompt_throughput: perSecond('prefill_tokens', last, reading),
      generation_throughput: perSecond('generated_tokens', last, reading),
      running: reading.running_requests ?? 0,
      swapped: reading.preempted ?? 0,
      pending: reading.waiting_requests ?? 0,
      gpu_cache_usage: reading.kv_usage ?? 0,
      cpu_cache_usage: 0,
    })
    last = reading
  }
  return lines
}

function perSecond(
  counter: 'prefill_tokens' | 'generated_tokens',
  from: NodeReading | undefined,
  to: NodeReading,
): number {
  const seconds = (to.at_ms - (from?.at_ms ?? 0)) / 1000
  return seconds > 0 ? ((to[counter] ?? 0) - (from?.[counter] ?? 0)) / seconds : 0
}
