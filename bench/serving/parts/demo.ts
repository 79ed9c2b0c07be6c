import { type LocalServer, startLocalServer } from '../../../cli/bench/serving/local-server.ts'
import type { ModeName } from '../../../cli/bench/serving/modes.ts'
import { type CellSummary, summariseCell } from '../../../cli/bench/serving/report/summary.ts'
import { runServing } from '../../../cli/bench/serving/run-serving.ts'
import { httpTarget } from '../../../cli/bench/serving/target/http-target.ts'
import { ROUTES } from '../../../cli/bench/serving/target/routes.ts'
import { openWorkload, type Workload } from '../../../cli/bench/serving/workload/workload.ts'
import type { BenchCase } from '../../report.ts'
import { valueRow } from '../measured.ts'
import type { PartOptions } from '../part.ts'

const MODEL = 'demo'
const PROMPTS = 'bench/apar/demo-prompts.jsonl'
const MODES = ['serial', 'parallel'] as const satisfies readonly ModeName[]
/** Requests in flight: one, and all at once. */
const CONCURRENCIES = [1, null]
const MAX_TOKENS = 160
const SEED = 1
const LEVEL = { ttft_ms: 500, tpot_ms: 50 }
const SILENCE_MS = 120_000

/** The figures of each combination in every repetition. */
type Measured = Map<string, { concurrency: number | null; mode: ModeName; summaries: CellSummary[] }>

/**
 * Parallel against serial decoding through a whole server, as `apar bench serving` measures it: the demo model, whose
 * client, edge and gpu node share the processors.
 */
export async function demo({ quick, file, script }: PartOptions): Promise<BenchCase[]> {
  const workload = await openWorkload({
    ...{ dataset: PROMPTS, data: undefined, arrivals: undefined, limit: quick ? 6 : 32 },
    ...{ inputTokens: { from: 1, to: 1 }, outputTokens: undefined, seed: SEED },
  })
  const server = await startLocalServer({ model: MODEL, requests: workload.size, nodeArguments: [], script })
  try {
    const measured = await measure(server, workload, quick ? 2 : 7, file)
    return [...ratios(measured), ...[...measured.values()].flatMap(figures)]
  } finally {
    await server.close()
  }
}

async function measure(
  { url, key, model, metrics }: LocalServer,
  workload: Workload,
  repetitions: number,
  file: PartOptions['file'],
): Promise<Measured> {
  const measured: Measured = new Map()
  const target = httpTarget(ROUTES.chat, { baseUrl: url, key, silenceMs: SILENCE_MS })
  try {
    for (let repetition = 0; repetition < repetitions; repetition++) {
      const cells = await runServing({
        ...{ target, model, workload, metrics, rates: [null], concurrencies: CONCURRENCIES },
        // Which mode is first alternates.
        modes: repetition % 2 === 0 ? MODES : MODES.toReversed(),
        ...{
          burstiness: 1,
          rounds: 1,
          maxTokens: MAX_TOKENS,
          fixedLengths: true,
          temperature: 0,
          seed: SEED,
        },
        warmUp: repetition === 0,
        onSample: (cell, _, sample) =>
          file.add({ bench: 'serving', part: 'demo', type: 'request', repetition, ...cell, ...sample }),
        log: (line) =>
          console.error(`serving: demo, ${line}, repetition ${repetition + 1} of ${repetitions}`),
      })
      for (const cell of cells) {
        const summary = summariseCell(cell, LEVEL)
        if (summary.completed < summary.requests)
          throw new Error(`requests failed: ${JSON.stringify(summary.errors)}`)
        const { concurrency } = summary
        const mode = summary.mode as ModeName
        const name = `${mode}, ${loadOf(concurrency)}`
        const of = measured.get(name) ?? { concurrency, mode, summaries: [] }
        of.summaries.push(summary)
        measured.set(name, of)
      }
    }
  } finally {
    target.close()
  }
  return measured
}

function loadOf(concurrency: number | null): string {
  return concurrency === null ? 'all at once' : `${concurrency} in flight`
}

interface Figure {
  readonly name: string
  readonly unit: string
  readonly better: BenchCase['better']
  readonly of: (summary: CellSummary) => number
}

const THROUGHPUT: Figure = {
  ...{ name: 'output', unit: 'tok/s', better: 'higher' },
  of: ({ output_tokens_per_s }) => output_tokens_per_s,
}
const END_TO_END: Figure = {
  ...{ name: 'end to end p50', unit: 'ms', better: 'lower' },
  of: ({ e2e_ms }) => e2e_ms?.p50 ?? Number.NaN,
}
const FIGURES: readonly Figure[] = [
  THROUGHPUT,
  END_TO_END,
  { name: 'TTFT p50', unit: 'ms', better: 'lower', of: ({ ttft_ms }) => ttft_ms?.p50 ?? Number.NaN },
  {
    name: 'time per token p50',
    unit: 'ms',
    better: 'lower',
    of: ({ tpot_ms }) => tpot_ms?.p50 ?? Number.NaN,
  },
  {
    name: 'goodput',
    unit: 'requests/s',
    better: 'higher',
    of: ({ goodput }) => goodput?.requests_per_s ?? 0,
  },
  { name: 'KV peak', unit: 'share', better: 'lower', of: ({ node }) => node?.kv_peak ?? Number.NaN },
  { name: 'steps', unit: 'steps', better: 'lower', of: ({ node }) => node?.steps ?? Number.NaN },
  {
    ...{ name: 'client late p99', unit: 'ms', better: 'lower' },
    of: ({ client }) => Math.max(client.loop_late_p99_ms, client.sent_late_p99_ms),
  },
]

function figures({
  concurrency,
  mode,
  summaries,
}: {
  concurrency: number | null
  mode: ModeName
  summaries: CellSummary[]
}) {
  return FIGURES.flatMap(({ name, unit, better, of }) =>
    row(`${name}, ${mode}, ${loadOf(concurrency)}`, summaries.map(of), { unit, better }),
  )
}

/** Parallel over serial, within each repetition. */
function ratios(measured: Measured): BenchCase[] {
  return CONCURRENCIES.flatMap((concurrency) => {
    const load = loadOf(concurrency)
    const [serial = [], parallel = []] = MODES.map(
      (mode) => measured.get(`${mode}, ${load}`)?.summaries ?? [],
    )
    return [THROUGHPUT, END_TO_END].flatMap(({ name, better, of }) => {
      const each = parallel.map((summary, index) => of(summary) / of(serial[index] ?? summary))
      return row(`${name}, parallel over serial, ${load}`, each, { unit: 'x', better })
    })
  })
}

/** No goals: those of the project are of models whose steps cost more than what surrounds them. */
function row(name: string, values: readonly number[], of: Pick<BenchCase, 'unit' | 'better'>): BenchCase[] {
  return valueRow(
    `demo: ${name}`,
    values.filter((value) => Number.isFinite(value)),
    { ...of, goal: null },
  )
}
