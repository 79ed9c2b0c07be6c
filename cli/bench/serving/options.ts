import { type Command, InvalidArgumentError, Option } from 'commander'
import { NODE_LIMITS } from '../../commands/node-limits.ts'
import { adapterOption, decimal, folder, integer, medusaOption, url } from '../../options.ts'
import { DATASETS } from '../../trace/dataset.ts'
import { isModeName, MODES, type ModeName } from './modes.ts'
import { MAX_TOKENS } from './run-serving.ts'
import { type Sweep, sweep } from './sweep.ts'
import { ROUTES, type RouteName } from './target/routes.ts'
import type { TokenRange } from './workload/random-text.ts'
import { RANDOM } from './workload/workload.ts'

export const SOCKET = 'websocket'
export type ApiName = RouteName | typeof SOCKET

/** Of `--out`: our own, or that of the reference (THUDM/APAR, vllm/test_serving.py). */
const FORMATS = ['jsonl', 'reference'] as const
type OutputFormat = (typeof FORMATS)[number]

export interface ServingFlags {
  dataset?: string
  data?: string
  arrivals?: string
  replay?: string
  prompts?: number
  inputTokens: TokenRange
  outputTokens?: TokenRange
  maxTokens?: number
  ignoreEos: boolean
  rates?: number[]
  burstiness: number
  concurrency?: number[]
  rounds: number
  warmUp: boolean
  url?: string
  key?: string
  api: ApiName
  model?: string
  adapter?: string
  medusa?: string
  modes?: ModeName[]
  sweep?: Sweep
  body?: object
  temperature: number
  seed: number
  timeout: number
  sloTtft?: number
  sloTpot?: number
  nodeMetrics?: string
  out?: string
  format: OutputFormat
  markdown?: string
  plots?: string
  json?: true
}

const TOKENS = integer(1, 1_000_000)

/** What is sent, and when. */
export function addLoadOptions(command: Command): Command {
  return command
    .option(
      '--dataset <set>',
      `prompts: ${DATASETS.join(', ')}, a file (apar_testset.json, FastChat questions, ShareGPT, JSONL), or ${RANDOM}`,
    )
    .option(
      '--data <folder>',
      'with the question sets: llm_judge/data of FastChat, or NAME.jsonl (default: APAR_EVAL_DATA)',
    )
    .addOption(
      new Option(
        '--replay <file>',
        "published answers to the data set (FastChat's model_answer) that a gpu node is made to give: it is started here",
      ).conflicts(['url', 'key', 'api', 'body', 'outputTokens', 'ignoreEos']),
    )
    .option('--prompts <n>', 'the first ones only', integer(1, 10_000_000))
    .addOption(
      new Option('--input-tokens <n>', `of ${RANDOM} prompts: 128, or 64-512`)
        .argParser(tokenRange)
        .default({ from: 128, to: 128 }, '128'),
    )
    .addOption(
      new Option('--output-tokens <n>', 'of each answer, exactly: 128, or 64-512').argParser(tokenRange),
    )
    .option('--max-tokens <n>', `of answers that end by themselves (default: ${MAX_TOKENS})`, TOKENS)
    .option(
      '--no-ignore-eos',
      'answers of given lengths may end earlier: for servers that refuse ignore_eos and min_tokens',
    )
    .option(
      '--rates <list>',
      'requests per second, for example 1,2,4 (default: all at once)',
      list(decimal(0.001, 1e6)),
    )
    .option(
      '--burstiness <shape>',
      'of the gaps: 1 is a Poisson process, less comes in bursts',
      decimal(0.01, 1e4),
      1,
    )
    .option(
      '--arrivals <file>',
      'CSV of a recorded load: the Azure LLM inference traces, or BurstGPT; with --rates it is scaled to these',
    )
    .option(
      '--concurrency <list>',
      'most requests in flight, for example 1,8,64 (default: no limit)',
      list(integer(1, 100_000)),
    )
    .option('--rounds <n>', 'how often everything is measured', integer(1, 1000), 1)
    .option('--no-warm-up', 'with several rates or modes: does not compute the prompts of files once before')
    .option('--temperature <t>', '0 is greedy', decimal(0, 2), 0)
    .option(
      '--seed <number>',
      'of lengths, random prompts, arrivals and sampling',
      integer(0, 2 ** 32 - 1),
      1,
    )
}

/** Where it is sent. */
export function addTargetOptions(command: Command): Command {
  return command
    .option('--url <url>', 'a server, instead of one that is started here', url('http:', 'https:'))
    .option('--key <key>', 'API key of the server (default: APAR_API_KEY)')
    .addOption(
      new Option('--api <api>', 'how the server is asked')
        .choices([...Object.keys(ROUTES), SOCKET])
        .default('chat'),
    )
    .option(
      '--model <model>',
      'what apar serve takes; with --url, the name of a model there (default: the first)',
    )
    .addOption(adapterOption())
    .addOption(medusaOption())
    .option(
      '--modes <list>',
      `of a server of apar, compared in turns: ${Object.keys(MODES).join(', ')} (default: no options of apar are sent)`,
      modes,
    )
    .option(
      '--sweep <limit=values...>',
      `limits of the gpu node, which is started anew for each value: blocks=500,1000; limits are ${Object.keys(NODE_LIMITS).join(', ')}`,
      sweep,
    )
    .option('--body <json>', 'further fields of every body', jsonObject)
    .option(
      '--timeout <seconds>',
      'without any byte, after which a request has failed',
      integer(1, 86_400),
      600,
    )
    .option(
      '--node-metrics <url>',
      '/metrics of the gpu node, read with METRICS_SECRET or NODE_SECRET, or of a vLLM server',
      url('http:', 'https:'),
    )
}

/** What is reported. */
export function addReportOptions(command: Command): Command {
  return command
    .option('--slo-ttft <ms>', 'goodput: the most for the first token', decimal(0, 1e9))
    .option(
      '--slo-tpot <ms>',
      'goodput: the most for each token after it, in the mean of an answer',
      decimal(0, 1e9),
    )
    .option('--out <file>', 'write every request there, with prompt and answer, as JSON lines')
    .addOption(
      new Option(
        '--format <format>',
        "of --out; reference: a folder of result files and engine logs, as THUDM/APAR's test_serving.py writes them",
      )
        .choices(FORMATS)
        .default('jsonl'),
    )
    .option('--markdown <file>', 'write the tables there')
    .option(
      '--plots <folder>',
      'write plots over what varies there, and of the batch over time, as SVG and PNG',
      folder,
    )
    .option('--json', 'print the figures as JSON instead of tables')
}

function list<T>(parse: (text: string) => T): (text: string) => T[] {
  return (text) => [...new Set(text.split(',').map((each) => parse(each.trim())))]
}

function tokenRange(text: string): TokenRange {
  const [from = '', to = from] = text.split('-')
  const range = { from: TOKENS(from), to: TOKENS(to) }
  if (range.from > range.to || text.split('-').length > 2)
    throw new InvalidArgumentError('a number of tokens is needed, or a range such as 64-512')
  return range
}

function modes(text: string): ModeName[] {
  return list((name) => {
    if (isModeName(name)) return name
    throw new InvalidArgumentError(`${JSON.stringify(name)} is none of ${Object.keys(MODES).join(', ')}`)
  })(text)
}

function jsonObject(text: string): object {
  try {
    const value: unknown = JSON.parse(text)
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value
  } catch {
    // As for what is no object.
  }
  throw new InvalidArgumentError('a JSON object is needed, for example {"top_k": 1}')
}
