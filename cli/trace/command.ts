import { basename, join } from 'node:path'
import { type Command, Option } from 'commander'
import type { Device, DType } from '../../gpu-node/engine/engine-config.ts'
import { openRunner } from '../../gpu-node/open-runner.ts'
import { MAX_DEPTH, MAX_LIVE_BRANCHES } from '../../shared/protocol/request.ts'
import type { Speculation } from '../../shared/protocol/speculation.ts'
import { TRACE_VERSION } from '../../shared/protocol/trace.ts'
import { firstModel } from '../chat/models.ts'
import { UserError } from '../explain.ts'
import { type JsonFlag, print, withJson } from '../json.ts'
import { resolveOrPull } from '../models/pull.ts'
import { adapterOf, servedName } from '../models/served-name.ts'
import {
  adapterOption,
  decimal,
  deviceOption,
  dtypeOption,
  integer,
  medusaOption,
  speculationOption,
  url,
} from '../options.ts'
import { Replay } from '../replay/replay.ts'
import { type Ask, asksEdge, asksRunner } from './ask.ts'
import { DATASETS, datasetFile, digestOf, type Question, readQuestions } from './dataset.ts'
import { registerExport } from './export/command.ts'
import { registerReport } from './report/command.ts'
import { RunFolder, type RunSettings } from './run-folder.ts'
import { registerShow } from './show/command.ts'
import { MODES, type Mode } from './trace-file.ts'
import { type RequestSettings, traceQuestion } from './trace-question.ts'

interface TraceFlags extends JsonFlag {
  dataset?: string
  data?: string
  replay?: string
  url?: string
  key?: string
  model?: string
  adapter?: string
  medusa?: string
  out?: string
  mode?: Mode
  limit?: number
  concurrency: number
  maxTokens?: number
  maxBranches?: number
  maxDepth?: number
  temperature: number
  seed: number
  dtype?: DType
  device?: Device
  speculation?: Speculation
  threads?: number
}

/** What is asked, and where it runs. */
interface Target {
  readonly ask: Ask
  readonly model: string
  readonly where: RunSettings['where']
  readonly replay?: Replay | undefined
  close(): Promise<void>
}

const MAX_TOKENS = 1024
const REPORT_MS = 15_000
/** Where traces lie that no folder was named for. */
export const TRACES = 'traces'

/** Adds `apar trace` and its commands. */
export function registerTrace(program: Command): void {
  const trace = withJson(program.command('trace'))
    .enablePositionalOptions()
    .description('records what each step of the engine does for the answers to a set of questions')
    .option(
      '--dataset <set>',
      `${DATASETS.join(', ')}, or a JSONL file of {question_id, turns}, {prompt} or {messages}`,
    )
    .option(
      '--data <folder>',
      'with the question sets: llm_judge/data of FastChat, or NAME.jsonl (default: APAR_EVAL_DATA)',
    )
    .addOption(
      new Option(
        '--replay <file>',
        "published answers to the set (FastChat's model_answer), which the engine in this process is made to give",
      ).conflicts(['url', 'speculation', 'medusa']),
    )
    .option('--url <url>', 'an edge, instead of an engine in this process', url('http:', 'https:'))
    .option('--key <key>', 'API key of the edge (default: APAR_API_KEY)')
    .option('--model <model>', 'what apar serve takes; with --url, the name of a model there')
    .addOption(adapterOption())
    .addOption(medusaOption())
    .option('--out <folder>', `new, or one with traces to go on with (default: ${TRACES}/SET-MODEL)`)
    .addOption(new Option('--mode <mode>', 'default: both, in turns').choices(MODES))
    .option('--limit <n>', 'ask the first questions only', integer(1, 1_000_000))
    .option('--concurrency <n>', 'questions at a time; times of single answers need 1', integer(1, 4096), 1)
    .option(
      '--max-tokens <n>',
      `new tokens of an answer, all branches together (default: ${MAX_TOKENS}; of a replay, all)`,
      integer(1, 1_000_000),
    )
    .option('--max-branches <n>', 'live branches of an answer (default: 32)', integer(1, MAX_LIVE_BRANCHES))
    .option('--max-depth <n>', 'depth of branches, the root has 1 (default: 2)', integer(1, MAX_DEPTH))
    .option('--temperature <t>', '0 is greedy', decimal(0, 2), 0)
    .option('--seed <number>', 'of sampling', integer(0, 2 ** 32 - 1), 1)
    .addOption(dtypeOption())
    .addOption(deviceOption())
    .addOption(speculationOption())
    .option('--threads <n>', 'threads of the CPU backend (default: physical cores)', integer(1, 256))
    .action(recordTraces)
  registerReport(trace)
  registerShow(trace)
  registerExport(trace)
}

async function recordTraces(flags: TraceFlags): Promise<void> {
  if (flags.dataset === undefined)
    throw new UserError('missing_option', `--dataset is needed: ${DATASETS.join(', ')} or a JSONL file`)
  const file = datasetFile(flags.dataset, flags.data ?? process.env.APAR_EVAL_DATA)
  const all = await readQuestions(file)
  if (all.length === 0) throw new UserError('invalid_option', `--dataset: ${file} has no questions`)
  const dataset = basename(flags.dataset).replace(/\.jsonl(\.\w+)?$/, '')
  const target = await (flags.url === undefined ? ownEngine(flags) : edge(flags.url, flags))
  const { replay } = target
  try {
    const questions = (replay?.answered(all) ?? all).slice(0, flags.limit)
    const request = requestSettings(target.model, flags)
    const { concurrency } = flags
    const settings = {
      version: TRACE_VERSION,
      dataset,
      questions: digestOf(file),
      model: target.model,
      where: target.where,
      concurrency,
      ...(replay && { replay: replay.digest }),
      request,
    }
    const answers = replay ? `-${replay.name}` : ''
    const out = flags.out ?? join(TRACES, `${dataset}-${target.model}${answers}`.replaceAll('/', '--'))
    const folder = await RunFolder.open(out, { ...settings, version: TRACE_VERSION })
    try {
      await record(target, folder, questions, request, flags)
      print(flags, { out, questions: questions.length }, () => {
        return `traces of ${questions.length} questions → ${out}`
      })
    } finally {
      folder.close()
    }
  } finally {
    await target.close()
  }
}

function requestSettings(model: string, flags: TraceFlags): RequestSettings {
  const { temperature, seed, speculation, maxBranches, maxDepth } = flags
  // A replay ends where its answer does.
  const maxTokens = flags.maxTokens ?? (flags.replay === undefined ? MAX_TOKENS : undefined)
  const limits = {
    ...(maxBranches !== undefined && { max_branches: maxBranches }),
    ...(maxDepth !== undefined && { max_depth: maxDepth }),
  }
  return {
    ...{ model, ...(maxTokens !== undefined && { max_tokens: maxTokens }), temperature, seed },
    ...(speculation !== undefined && { speculation }),
    ...(Object.keys(limits).length > 0 && { branching: limits }),
  }
}

/** Prompts are computed anew for each answer, so that both modes have the same work. */
async function ownEngine(flags: TraceFlags): Promise<Target> {
  const name = flags.model ?? missing('--model, or --url')
  const { concurrency, speculation } = flags
  const model = await resolveOrPull(name)
  const adapter = adapterOf(model, flags)
  const replay =
    flags.replay === undefined ? undefined : await Replay.open(flags.replay, { path: model.path, adapter })
  const runner = await openRunner(model.path, {
    ...{ name: servedName(model, flags), adapter, medusa: flags.medusa },
    allowReplay: replay !== undefined,
    ...{ dtype: flags.dtype, device: flags.device, threads: flags.threads, speculation },
    maxBranches: Math.max(64, Math.min(512, 8 * concurrency)),
    maxRequests: concurrency,
    prefixCache: false,
    onWarning: (warning) => console.error(`apar: ${warning}`),
  })
  const { device, dtype, kvCacheDtype } = runner.engineInfo
  const where = { device, dtype, kv_cache_dtype: kvCacheDtype }
  return { ask: asksRunner(runner), model: runner.model, where, replay, close: () => runner.close() }
}

async function edge(address: string, flags: TraceFlags): Promise<Target> {
  const own = (['adapter', 'medusa', 'dtype', 'device', 'threads'] as const).find(
    (name) => flags[name] !== undefined,
  )
  if (own !== undefined)
    throw new UserError('invalid_option', `--${own}: with --url, the gpu nodes of the edge decide that`)
  const key = flags.key ?? process.env.APAR_API_KEY ?? missing('an API key: --key, or APAR_API_KEY')
  const model = flags.model ?? (await firstModel(address, key))
  return { ask: asksEdge(address, key), model, where: { url: address }, close: async () => {} }
}

function missing(what: string): never {
  throw new UserError('missing_option', `${what} is needed`)
}

async function record(
  { ask, replay }: Target,
  folder: RunFolder,
  questions: readonly Question[],
  request: RequestSettings,
  { mode: only, concurrency }: TraceFlags,
): Promise<void> {
  // Which mode comes first alternates: what a machine does meanwhile meets both alike.
  const asked = questions.flatMap((question, index) => {
    const order = index % 2 === 0 ? MODES : MODES.toReversed()
    return order.map((mode) => ({ question, mode }))
  })
  const wanted = asked.filter(({ mode }) => only === undefined || mode === only)
  const open = wanted.filter(({ question, mode }) => !folder.has(question.id, mode))
  console.error(`apar: ${wanted.length} traces to make, ${wanted.length - open.length} are there`)
  const report = progress(open.length)
  const waiting = open.values()
  const work = async () => {
    for (const { question, mode } of waiting) {
      const { lines, tokens } = await traceQuestion(ask, question, mode, request, replay)
      folder.add(question.id, mode, lines)
      report(tokens)
    }
  }
  await Promise.all(Array.from({ length: concurrency }, work))
}

function progress(total: number): (tokens: number) => void {
  const begun = performance.now()
  let reported = begun
  let done = 0
  let tokens = 0
  return (more) => {
    done++
    tokens += more
    const now = performance.now()
    if (now - reported < REPORT_MS) return
    reported = now
    const seconds = (now - begun) / 1000
    const left = ((total - done) * seconds) / done
    const rate = Math.round(tokens / seconds)
    console.error(`apar: ${done} of ${total} traces, ${rate} tok/s, about ${Math.ceil(left / 60)} min left`)
  }
}
