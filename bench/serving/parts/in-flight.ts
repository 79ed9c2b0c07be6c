import type { NodeReading } from '../../../cli/bench/serving/load/node-metrics.ts'
import { startLocalServer } from '../../../cli/bench/serving/local-server.ts'
import { type CellSummary, summariseCell } from '../../../cli/bench/serving/report/summary.ts'
import { runServing } from '../../../cli/bench/serving/run-serving.ts'
import { httpTarget } from '../../../cli/bench/serving/target/http-target.ts'
import { ROUTES } from '../../../cli/bench/serving/target/routes.ts'
import { openWorkload } from '../../../cli/bench/serving/workload/workload.ts'
import type { BenchCase } from '../../report.ts'
import { brief } from '../measured.ts'
import type { PartOptions } from '../part.ts'

/** Requests fail because of the memory, or they do not, whatever the model. */
const MODEL = 'demo'
/** Those behind the thousandth keep a thousand in flight while the first ones end. */
const REQUESTS = 1400
const GOAL = 1000
const INPUT_TOKENS = 40
/** Shorter ones would end while others are still being sent. */
const OUTPUT_TOKENS = 400
const BLOCK_TOKENS = 16
/** Of the blocks that a thousand requests need together. */
const SHARE = 0.09
const MAX_BRANCHES = 1024
const SEED = 1
const SILENCE_MS = 600_000

/** More requests at once than the KV memory holds: all are to end. Through the edge, as users ask. */
export async function inFlight({ file, script }: PartOptions): Promise<BenchCase[]> {
  const of = (tokens: number) => ({ from: tokens, to: tokens })
  const workload = await openWorkload({
    ...{ dataset: 'random', data: undefined, arrivals: undefined, limit: REQUESTS, seed: SEED },
    ...{ inputTokens: of(INPUT_TOKENS), outputTokens: of(OUTPUT_TOKENS) },
  })
  // Each request has a block that is not full.
  const needed = Math.ceil((INPUT_TOKENS + OUTPUT_TOKENS) / BLOCK_TOKENS)
  const blocks = Math.floor(SHARE * GOAL * needed)
  const limits = { blocks, watermark: 0, 'max-branches': MAX_BRANCHES, 'max-step-tokens': MAX_BRANCHES }
  const nodeArguments = Object.entries(limits).flatMap(([name, value]) => [`--${name}`, String(value)])
  const server = await startLocalServer({ model: MODEL, requests: REQUESTS, nodeArguments, script })
  const target = httpTarget(ROUTES.chat, { baseUrl: server.url, key: server.key, silenceMs: SILENCE_MS })
  let readings: readonly NodeReading[] = []
  try {
    const [cell] = await runServing({
      ...{ target, workload, model: server.model, metrics: server.metrics },
      ...{ modes: ['parallel'], rates: [null], concurrencies: [null], rounds: 1, burstiness: 1 },
      ...{ maxTokens: undefined, fixedLengths: true, temperature: 0, seed: SEED, warmUp: false },
      onSample: (_, __, sample) =>
        file.add({
          bench: 'serving',
          part: 'in-flight',
          type: 'request',
          ...brief(sample),
          error: sample.error,
        }),
      onRound: (_, __, round) => {
        readings = round.readings
      },
      log: () => {},
    })
    if (!cell) throw new Error('nothing was measured')
    const summary = summariseCell(cell, { ttft_ms: null, tpot_ms: null })
    const named = { bench: 'serving', part: 'in-flight' }
    for (const reading of readings) file.add({ ...named, type: 'node', ...reading })
    file.add({ ...named, type: 'cell', ...summary })
    return inFlightCases(summary, readings)
  } finally {
    target.close()
    await server.close()
  }
}

export function inFlightCases(
  { requests, completed, prompt_tokens, output_tokens, node }: CellSummary,
  readings: readonly NodeReading[],
): BenchCase[] {
  const most = Math.max(
    0,
    ...readings.map(({ running_requests = 0, waiting_requests = 0 }) => running_requests + waiting_requests),
  )
  // Rounded down to whole blocks: no more than what they need.
  const needed = Math.floor((prompt_tokens + output_tokens) / completed / BLOCK_TOKENS)
  const share = (node?.kv_blocks ?? Number.NaN) / (most * needed)
  const row = { better: 'lower', unit: 'requests' } as const
  return [
    { ...row, case: 'many in flight: failed requests', value: requests - completed, goal: 0 },
    { ...row, case: 'many in flight: requests at a time', value: most, better: 'higher', goal: GOAL },
    {
      ...{ case: 'many in flight: KV memory, of what the requests at that time need', unit: 'share' },
      ...{ value: Number(share.toPrecision(4)), better: 'lower', goal: 0.1 },
    },
    {
      ...{ case: 'many in flight: pre-emptions', unit: 'branches', better: 'lower', goal: null },
      value: node?.preemptions ?? 0,
    },
  ]
}
