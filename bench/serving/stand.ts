import { sumsOf } from '../../cli/bench/serving/load/node-metrics.ts'
import { type LocalServer, startLocalServer } from '../../cli/bench/serving/local-server.ts'
import type { ModeName } from '../../cli/bench/serving/modes.ts'
import { type ServiceLevel, summariseCell } from '../../cli/bench/serving/report/summary.ts'
import { type Round, runServing } from '../../cli/bench/serving/run-serving.ts'
import { nodeTarget } from '../../cli/bench/serving/target/node-target.ts'
import type { Workload } from '../../cli/bench/serving/workload/workload.ts'
import { resolveModel } from '../../cli/models/resolve.ts'
import { AnswerForcer } from '../../cli/replay/forced-answer.ts'
import { readCheckpoint } from '../../gpu-node/checkpoint/checkpoint.ts'
import type { ModelFlags, SampleFile } from '../report.ts'
import { type ReplayedAnswers, readReplayedAnswers } from './answers.ts'
import { brief, type Measured, tokensPerSecondWhileWaiting } from './measured.ts'
import { randomModel } from './random-model.ts'
import { inTurns, type TurnLimits } from './turns.ts'

export const DEFAULT_SHAPE = '135M'
/** Answers at a time and their tokens, to find out how long a part will take. */
const CROWD = 32
const CROWD_TOKENS = 32
const ALONE_TOKENS = 64
const SEED = 1
const NO_LEVEL: ServiceLevel = { ttft_ms: null, tpot_ms: null }
/** Prompt and template beside an answer, about. */
const PROMPT_TOKENS = 64
const BLOCK_TOKENS = 16
/** As many as a node has by default. */
const MAX_BRANCHES = 64

/** Tokens per second of serial decoding, roughly. */
export interface Pace {
  readonly alone: number
  /** Of {@link CROWD} requests together. */
  readonly crowd: number
}

/** What the parts of the bench share. */
export interface Stand {
  readonly quick: boolean
  readonly file: Pick<SampleFile, 'add'>
  /** Of the model, for people. */
  readonly name: string
  /** What `apar gpu-node --model` takes. */
  readonly model: string
  readonly script: string
  /** For every gpu node: the device. */
  readonly nodeArguments: readonly string[]
  readonly answers: ReplayedAnswers
  readonly pace: Pace
  readonly log: (line: string) => void
}

export interface Way {
  readonly name: string
  readonly node: LocalServer
  readonly mode: ModeName
  /** Whether each request records its trace. */
  readonly traced?: boolean
}

export interface Load {
  readonly part: string
  readonly workload: Workload
  /** Requests a second; default: all are due at once. */
  readonly rate?: number
  readonly concurrency?: number
  /** Default: of the whole answer. */
  readonly maxTokens?: number
  readonly level?: ServiceLevel
  /** What varies within the part, beside the way: for the samples. */
  readonly point?: Readonly<Record<string, number>>
  readonly repetition: number
}

export interface StandOptions {
  readonly quick: boolean
  readonly file: Pick<SampleFile, 'add'>
  readonly script: string
  readonly flags: Pick<ModelFlags, 'model' | 'device' | 'dtype'>
}

/** Answers of a model's shape, and how fast this machine makes them. */
export async function openStand({ quick, file, script, flags }: StandOptions): Promise<Stand> {
  const { model: name = DEFAULT_SHAPE, device, dtype } = flags
  const log = (line: string) => console.error(`serving: ${line}`)
  const random = randomModel(name)
  const model = random ?? name
  const { path, adapter } = resolveModel(model)
  const all = await readReplayedAnswers(new AnswerForcer(readCheckpoint(path, { adapter })))
  const answers = quick ? all.shorter() : all
  const nodeArguments = [...(device ? ['--device', device] : []), ...(dtype ? ['--dtype', dtype] : [])]
  const title = random === undefined ? name : `random weights of the shape of a ${name} model`
  const stand = { quick, file, name: title, model, script, nodeArguments, answers, log }
  const pace = await paceOf({ ...stand, pace: { alone: 0, crowd: 0 } })
  log(
    `${title}: ${answers.name}, ${Math.round(answers.meanTokens)} tokens in the mean; serially about ${Math.round(pace.alone)} tok/s alone, ${Math.round(pace.crowd)} with ${CROWD} requests`,
  )
  return { ...stand, pace }
}

async function paceOf(stand: Stand): Promise<Pace> {
  return await withNode(stand, { holds: 2 * CROWD }, async (node) => {
    const way: Way = { name: 'pace', node, mode: 'serial' }
    const rate = async (requests: number, maxTokens: number) => {
      const load = { part: 'pace', workload: stand.answers.take(requests), maxTokens, repetition: 0 }
      return (await measure(stand, way, load)).summary.output_tokens_per_s
    }
    return { alone: await rate(1, ALONE_TOKENS), crowd: await rate(CROWD, CROWD_TOKENS) }
  })
}

/** How many answers are made serially in about so many seconds. */
export function answersIn({ answers }: Stand, seconds: number, tokensPerSecond: number): number {
  return Math.floor((seconds * tokensPerSecond) / answers.meanTokens)
}

/** KV blocks that about so many serial requests need. */
export function blocksOf({ answers }: Stand, requests: number): number {
  return Math.ceil((requests * (PROMPT_TOKENS + answers.meanTokens)) / BLOCK_TOKENS)
}

export interface NodeLimits {
  /** The KV memory: how many serial requests it holds. */
  readonly holds: number
  readonly maxBranches?: number
  readonly more?: readonly string[]
}

/** Starts a gpu node with its edge, for as long as `use` takes. Prompts are sent several times: no run is to find them cached. */
export async function withNode<T>(
  stand: Stand,
  { holds, maxBranches = MAX_BRANCHES, more = [] }: NodeLimits,
  use: (node: LocalServer) => Promise<T>,
): Promise<T> {
  const node = await startLocalServer({
    ...{ model: stand.model, script: stand.script, requests: 1000 },
    nodeArguments: [
      ...['--allow-replay', '--no-prefix-cache', ...stand.nodeArguments],
      ...['--blocks', String(blocksOf(stand, holds)), '--max-branches', String(maxBranches), ...more],
    ],
  })
  try {
    return await use(node)
  } finally {
    await node.close()
  }
}

/** The same load serially and in branches, in turns. @throws Error when a request fails. */
export async function measureBoth(
  stand: Stand,
  node: LocalServer,
  load: Omit<Load, 'repetition'>,
  limits: TurnLimits,
): Promise<Measured[][]> {
  const ways = (['serial', 'parallel'] as const).map(
    (mode) => (repetition: number) => measure(stand, { name: mode, node, mode }, { ...load, repetition }),
  )
  return await inTurns(ways, limits)
}

/** @throws Error when a request fails. */
export async function measure(stand: Stand, way: Way, load: Load): Promise<Measured> {
  const { part, workload, rate = null, concurrency = null, point = {}, repetition } = load
  const { node, mode } = way
  const target = nodeTarget(node.node)
  const rounds: Round[] = []
  const before = await processorSeconds(node)
  const [cell] = await runServing({
    ...{ target, workload, model: node.model, metrics: node.metrics },
    ...{ modes: [mode], rates: [rate], concurrencies: [concurrency], rounds: 1, burstiness: 1 },
    // Other arrivals in each repetition, and the same for all ways.
    ...{ maxTokens: load.maxTokens, fixedLengths: false, temperature: 0, seed: SEED + repetition },
    ...{ warmUp: false, trace: way.traced },
    onSample: () => {},
    onRound: (_, __, round) => rounds.push(round),
    log: () => {},
  })
  if (!cell) throw new Error('nothing was measured')
  const summary = summariseCell(cell, load.level ?? NO_LEVEL)
  if (summary.completed < summary.requests)
    throw new Error(`${part}, ${way.name}: requests failed: ${JSON.stringify(summary.errors)}`)
  const samples = cell.samples.map(brief)
  const readings = rounds.flatMap((round) => round.readings)
  const waitingTokens = tokensPerSecondWhileWaiting(readings)
  const after = await processorSeconds(node)
  const measured = {
    ...{ way: way.name, summary, samples },
    waitingRate: waitingTokens && (waitingTokens * summary.completed) / summary.output_tokens,
    processorUs:
      before === undefined || after === undefined
        ? undefined
        : (1e6 * (after - before)) / summary.output_tokens,
  }
  const named = { bench: 'serving', part, way: way.name, ...point, repetition }
  for (const sample of samples) stand.file.add({ ...named, type: 'request', ...sample })
  for (const reading of readings) stand.file.add({ ...named, type: 'node', ...reading })
  const { waitingRate, processorUs } = measured
  stand.file.add({ ...named, type: 'cell', ...summary, waiting_rate: waitingRate, processor_us: processorUs })
  stand.log(
    `${part}, ${[way.name, ...Object.entries(point).map(([name, value]) => `${name} ${value}`)].join(', ')}: ${summary.requests} requests in ${summary.duration_s.toFixed(1)} s${summary.client.late ? ', the client was late' : ''}`,
  )
  return measured
}

/** That the gpu node's process has used, if its metrics have it. */
async function processorSeconds({ metrics: { url, secret } }: LocalServer): Promise<number | undefined> {
  const response = await fetch(url, { headers: { authorization: `Bearer ${secret}` } })
  return sumsOf(await response.text()).get('process_cpu_seconds_total')
}
