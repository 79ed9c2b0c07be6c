import { availableParallelism, cpus } from 'node:os'
import type { ServingFlags } from '../options.ts'
import { MAX_TOKENS } from '../run-serving.ts'
import { sweepText } from '../sweep.ts'
import type { Workload } from '../workload/workload.ts'
import type { ReportHead } from './tables.ts'

interface Measured {
  readonly model: string
  readonly where: string
}

/** What the figures depend on, for programs. */
export function settingsOf({ model, where }: Measured, workload: Workload, flags: ServingFlags): object {
  return {
    ...{ model, where, api: apiOf(flags), workload: workload.name, prompts: workload.size },
    ...(flags.sweep && { sweep: Object.fromEntries(flags.sweep) }),
    ...{ input_tokens: workload.isRandom && !flags.arrivals ? flags.inputTokens : null },
    ...{
      output_tokens: flags.outputTokens ?? null,
      max_tokens: flags.maxTokens ?? (flags.replay === undefined ? MAX_TOKENS : null),
    },
    ...{ burstiness: flags.burstiness, rounds: flags.rounds },
    ...{ temperature: flags.temperature, seed: flags.seed },
    date: new Date().toISOString(),
    client: `${cpus()[0]?.model.trim() ?? 'unknown CPU'}, ${availableParallelism()} threads, Node ${process.versions.node}`,
  }
}

/** The same for people. */
export function headOf({ model, where }: Measured, workload: Workload, flags: ServingFlags): ReportHead {
  const arrivals = workload.recorded
    ? 'recorded arrivals'
    : flags.rates
      ? `burstiness ${flags.burstiness}`
      : 'all at once'
  const level = [
    ...(flags.sloTtft === undefined ? [] : [`TTFT ≤ ${flags.sloTtft} ms`]),
    ...(flags.sloTpot === undefined ? [] : [`time per token ≤ ${flags.sloTpot} ms`]),
  ]
  return {
    title: `${workload.name} · ${model} · ${apiOf(flags)}`,
    facts: [
      `${where}; ${workload.size} prompts, ${arrivals}, seed ${flags.seed}, temperature ${flags.temperature}`,
      ...(flags.sweep ? [sweepText(flags.sweep)] : []),
      ...(level.length === 0 ? [] : [`good: ${level.join(', ')}`]),
    ],
  }
}

function apiOf({ replay, api }: ServingFlags): string {
  return replay === undefined ? api : 'gpu node'
}
