import { hashText, seededRandom } from '../../../training/data/random.ts'
import { type ClientHealth, ClientWatch } from './load/client-watch.ts'
import { type MetricsSource, type NodeFigures, type NodeReading, NodeWatch } from './load/node-metrics.ts'
import { type LoadResult, type NamedRequest, runLoad } from './load/run-load.ts'
import { type CellSettings, labelOf, type Sample } from './load/sample.ts'
import { type Mode, optionsOf } from './modes.ts'
import type { NodeLimits } from './sweep.ts'
import { ReceivedAnswer } from './target/answer.ts'
import type { BenchRequest, Target } from './target/target.ts'
import { type ArrivalTimes, randomArrivals, scaledArrivals } from './workload/arrivals.ts'
import { calibrate } from './workload/calibrate.ts'
import type { BenchPrompt, WordsOf, Workload } from './workload/workload.ts'

const WARM_UP_AT_A_TIME = 4
export const MAX_TOKENS = 512
/** Beyond the tokens of a replayed answer: near its limit an answer's branches wait for each other (docs/adr/0028). */
const REPLAY_ROOM = 512

export interface ServingPlan {
  readonly target: Target
  readonly model: string
  readonly workload: Workload
  readonly modes: readonly Mode[]
  /** Requests a second; null: all at once, or as recorded. */
  readonly rates: readonly (number | null)[]
  readonly burstiness: number
  readonly concurrencies: readonly (number | null)[]
  /** Each cell is measured so often. */
  readonly rounds: number
  /** Default: {@link MAX_TOKENS}, or for a replay all of the answer. */
  readonly maxTokens: number | undefined
  /** Whether answers of a given length are to go on behind the model's own end. */
  readonly fixedLengths: boolean
  readonly temperature: number
  readonly seed: number
  /** Whether each prompt is computed once before anything is measured. */
  readonly warmUp: boolean
  readonly metrics: MetricsSource | undefined
  /** Limits of the node, where they are swept. */
  readonly limits?: NodeLimits | undefined
  /** Whether each request asks for its trace: for servers of apar only. */
  readonly trace?: boolean | undefined
  readonly onRound?: ((cell: CellSettings, round: number, measured: Round) => void) | undefined
  readonly onSample: (cell: CellSettings, round: number, sample: Sample) => void
  /** Progress, for people. */
  readonly log: (line: string) => void
}

/** All rounds of a cell. */
export interface Cell {
  readonly settings: CellSettings
  readonly samples: Sample[]
  readonly durationMs: number
  readonly client: ClientHealth
  readonly node: NodeFigures | undefined
}

/** One measurement of a cell. */
export interface Round {
  readonly began: Date
  readonly load: LoadResult
  readonly client: ClientHealth
  readonly node: NodeFigures | undefined
  /** Of the node's metrics; none without them. */
  readonly readings: readonly NodeReading[]
}

/**
 * Measures every combination of concurrency, rate and mode. The modes of a combination have the same prompts and arrivals
 * and come in turns, one at a time; which is first changes, because a machine changes its speed while it is measured.
 * @throws RequestFailed when the first request, which is not measured, fails.
 */
export async function runServing(plan: ServingPlan): Promise<Cell[]> {
  const { target, workload, modes, rounds } = plan
  const [firstMode = 'plain'] = modes
  const template: Omit<BenchRequest, 'messages'> = {
    ...{ model: plan.model, maxTokens: plan.maxTokens ?? MAX_TOKENS, fixedLength: false },
    ...{ temperature: plan.temperature, seed: plan.seed, mode: optionsOf(firstMode) },
  }
  const wordsOf = workload.isRandom ? await calibrate(target, template) : () => 1
  if (!workload.isRandom) await probe(target, template)
  const { limits } = plan
  const loads = plan.concurrencies.flatMap((concurrency) =>
    plan.rates.map((rate) => ({ concurrency, rate, ...(limits && { limits }) })),
  )
  if (plan.warmUp && !workload.isRandom) await warmUp(plan, template)
  const measured = new Map<string, { settings: CellSettings; rounds: Round[] }>()
  let part = 0
  for (let round = 0; round < rounds; round++) {
    for (const [index, point] of loads.entries()) {
      const first = (round + index) % modes.length
      for (const mode of [...modes.slice(first), ...modes.slice(0, first)]) {
        const settings = { mode, ...point }
        plan.log(`${labelOf(settings)}${rounds > 1 ? `, round ${round + 1} of ${rounds}` : ''}`)
        const key = JSON.stringify(settings)
        const cell = measured.get(key) ?? { settings, rounds: [] }
        measured.set(key, cell)
        const measuredRound = await measureRound(
          plan,
          settings,
          round,
          requestsOf(plan, mode, part++, wordsOf),
        )
        cell.rounds.push(measuredRound)
        plan.onRound?.(settings, round, measuredRound)
      }
    }
  }
  // In the order of the options, whatever was measured first.
  const order = loads.flatMap((point) => modes.map((mode) => JSON.stringify({ mode, ...point })))
  return order.flatMap((key) => {
    const cell = measured.get(key)
    return cell ? [merged(cell.settings, cell.rounds)] : []
  })
}

async function measureRound(
  plan: ServingPlan,
  settings: CellSettings,
  round: number,
  requests: readonly NamedRequest[],
): Promise<Round> {
  const { target, metrics } = plan
  const arrivals = arrivalsOf(plan, settings.rate, round)
  const node = metrics && (await NodeWatch.start(metrics))
  const began = new Date()
  const client = new ClientWatch()
  const load = await runLoad({
    ...{ target, requests, arrivals, concurrency: settings.concurrency },
    onSample: (sample) => plan.onSample(settings, round, sample),
  })
  const health = client.stop(load.latenessMs)
  return { began, load, client: health, node: await node?.stop(), readings: node?.readings ?? [] }
}

function requestsOf(plan: ServingPlan, mode: Mode, part: number, wordsOf: WordsOf): NamedRequest[] {
  const { workload, model, temperature, seed } = plan
  return workload.prompts(part, wordsOf).map(({ id, messages, outputTokens, forced }) => ({
    id,
    request: {
      ...{ model, messages, temperature, seed, mode: optionsOf(mode), forced, trace: plan.trace },
      maxTokens: outputTokens ?? mostTokens(plan, forced),
      fixedLength: outputTokens !== undefined && plan.fixedLengths,
    },
  }))
}

/** A replay is as long as its answer, if it is not to be cut. */
function mostTokens({ maxTokens }: ServingPlan, forced: BenchPrompt['forced']): number {
  if (maxTokens !== undefined || forced === undefined) return maxTokens ?? MAX_TOKENS
  return forced.reduce((sum, { tokens }) => sum + tokens.length, REPLAY_ROOM)
}

/** The same for all modes. */
function arrivalsOf(
  { workload, burstiness, seed }: ServingPlan,
  rate: number | null,
  round: number,
): ArrivalTimes {
  const { recorded, size } = workload
  if (recorded) return rate === null ? recorded : scaledArrivals(recorded, rate)
  if (rate === null) return Array.from({ length: size }, () => 0)
  return randomArrivals(size, { rate, burstiness }, seededRandom(hashText(`arrivals ${seed}/${round}`)))
}

/** An answer before anything is measured: what is wrong with the target shows here. */
async function probe(target: Target, template: Omit<BenchRequest, 'messages'>): Promise<void> {
  const messages = [{ role: 'user' as const, content: 'Hello' }]
  await target.ask({ ...template, messages, maxTokens: 1 }, new ReceivedAnswer())
}

/** Puts the prompts into the prefix cache, for all modes and rates alike. What fails here fails again when it is measured. */
async function warmUp(plan: ServingPlan, template: Omit<BenchRequest, 'messages'>): Promise<void> {
  plan.log(`${plan.workload.size} prompts are computed once before anything is measured`)
  const requests = plan.workload
    .prompts(0, () => 1)
    .map(({ id, messages }) => ({ id, request: { ...template, messages, maxTokens: 1 } }))
  const arrivals = requests.map(() => 0)
  await runLoad({ target: plan.target, requests, arrivals, concurrency: WARM_UP_AT_A_TIME })
}

function merged(settings: CellSettings, rounds: readonly Round[]): Cell {
  const clients = rounds.map(({ client }) => client)
  const worst = (of: (health: ClientHealth) => number) => Math.max(...clients.map(of))
  return {
    settings,
    samples: rounds.flatMap(({ load }) => load.samples),
    durationMs: rounds.reduce((sum, { load }) => sum + load.durationMs, 0),
    client: {
      loop_late_p99_ms: worst((health) => health.loop_late_p99_ms),
      loop_late_max_ms: worst((health) => health.loop_late_max_ms),
      sent_late_p99_ms: worst((health) => health.sent_late_p99_ms),
      cpu: worst((health) => health.cpu),
      late: clients.some(({ late }) => late),
    },
    node: rounds
      .map(({ node }) => node)
      .reduce((all, node) => (all && node ? mergedFigures(all, node) : undefined)),
  }
}

const PEAKS: ReadonlySet<string> = new Set(['kv_blocks', 'kv_peak', 'most_running_requests', 'most_branches'])

function mergedFigures(one: NodeFigures, other: NodeFigures): NodeFigures {
  const merged: Record<string, number> = { ...one }
  for (const [name, value] of Object.entries(other) as [string, number][]) {
    const before = merged[name] ?? 0
    merged[name] = PEAKS.has(name) ? Math.max(before, value) : before + value
  }
  return merged
}
