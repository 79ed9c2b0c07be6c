import { log, spinner } from '@clack/prompts'
import Table from 'cli-table3'
import { type Command, InvalidArgumentError, Option } from 'commander'
import {
  type BuildOptions,
  type BuildProgress,
  type BuildReport,
  buildData,
} from '../../training/data/build.ts'
import { PROFILES, type Profile, type ProfileName, profileOf } from '../../training/data/extract/profile.ts'
import { FAULTS, type Fault } from '../../training/data/input/conversations.ts'
import type { ForkTokens } from '../../training/data/model/fork-tokens.ts'
import type { InputShard } from '../../training/data/pipeline/batches.ts'
import { type LeftOut, reasonOf } from '../../training/data/pipeline/counts.ts'
import { demoConversations } from '../../training/data/sources/demo.ts'
import type { TldrOptions } from '../../training/data/sources/tldr.ts'
import { UserError } from '../explain.ts'
import { type JsonFlag, withJson } from '../json.ts'
import { MODEL_ARGUMENT, resolveModel } from '../models/resolve.ts'
import { chatTemplateOption, decimal, integer } from '../options.ts'
import { whileBuilding } from './lock-build.ts'

interface Flags extends JsonFlag {
  raw?: string
  conversations?: string
  answers?: string
  pages?: number
  skipPages?: number
  inventedNames?: number
  out: string
  profile: ProfileName
  rule?: string[]
  model?: string
  chatTemplate?: string
  forkTokens?: ForkTokens
  tokenizer?: string
  vocabSize?: number
  context?: number
  maxTokens?: number
  turns: 'first' | 'all'
  seed: number
  testShare: number
  jsonl?: true
  strict?: true
  shard?: InputShard
  threads: number
}

const DEFAULT_RAW = '../shared/data'

const STAGES: Record<BuildProgress['stage'], string> = {
  model: 'reading the model',
  conversations: 'building',
}

/** Adds `apar data build`. */
export function registerBuild(data: Command): void {
  withJson(data.command('build'))
    .description('conversations to structured rows and token shards, with a report')
    .argument(
      '[files...]',
      'conversations: a JSON array or JSON lines of {conversations}, {messages}, {dialogs}, {prompt, response} or {instruction, input, output}; .gz and .zst as well',
    )
    .option(
      '--out <folder>',
      'output folder; a build that is there is replaced when this one is whole',
      'work/data',
    )
    .addOption(
      new Option('--profile <name>', 'rules of extraction').choices(Object.keys(PROFILES)).default('default'),
    )
    .option(
      '--rule <name=value...>',
      'switches of the profile default, such as paragraphs=false (docs/data-rules.md has them)',
    )
    .option('--model <model>', `the model that is to learn: ${MODEL_ARGUMENT}; default: a new one`)
    .addOption(chatTemplateOption())
    .option(
      '--fork-tokens <tokens>',
      'add: two new tokens; ID,ID: two unused special tokens become [Fork] and [Child] (default: what the model has, else add)',
      forkTokens,
    )
    .option(
      '--tokenizer <file>',
      'without --model: this tokenizer.json, or train (the default): one trained on the data',
    )
    .option(
      '--vocab-size <count>',
      'vocabulary size of a trained tokenizer (default: 4096)',
      integer(300, 1_000_000),
    )
    .option(
      '--context <tokens>',
      "longest path in tokens (default: the model's context, 2048 for a new model)",
      integer(16, 10_000_000),
    )
    .addOption(
      new Option('--turns <which>', 'answers that may be structured: those of first turns, or all')
        .choices(['first', 'all'])
        .default('first'),
    )
    .option('--seed <number>', 'of the random choice of held-out data', integer(0, 2 ** 32 - 1), 1)
    .option('--test-share <share>', 'share held out, 0 to 1', decimal(0, 1), 0.12)
    .option('--jsonl', 'also write input_ids and labels as JSONL (TRL, axolotl)')
    .option('--strict', 'a fault of the input (duplicate ids, invalid UTF-8, empty turns, …) is an error')
    .option('--shard <i/n>', 'build the i-th of n parts of the input; apar data merge joins them', inputShard)
    .option('--threads <count>', 'worker threads; 0: none', integer(0, 64), 2)
    .option(
      '--raw <folder>',
      `the demo model's raw data (tldr pages); default without another source: ${DEFAULT_RAW}`,
    )
    .option('--pages <count>', 'with --raw: how many pages (default: 1000)', integer(0, 1_000_000))
    .option(
      '--skip-pages <count>',
      'with --raw: how many of the best known pages to leave out (default: 0)',
      integer(0, 1_000_000),
    )
    .option(
      '--invented-names <count>',
      'with --raw: copies of each page with an invented command name (default: 0)',
      integer(0, 1_000_000),
    )
    // Earlier names.
    .addOption(new Option('--conversations <file>', 'the same as FILE').hideHelp())
    .addOption(new Option('--answers <file>', 'the same as FILE').hideHelp())
    .addOption(
      new Option('--max-tokens <count>', 'the same as --context')
        .argParser(integer(16, 1_000_000))
        .hideHelp(),
    )
    .action(build)
}

async function build(given: string[], flags: Flags): Promise<void> {
  const options = buildOptions(given, flags)
  const busy = flags.json ? QUIET : process.stdout.isTTY ? spinner() : LINES
  busy.start(STAGES.model)
  try {
    const onProgress = throttled(({ stage, done, resumed }) => {
      const since = resumed > 0 ? ` (${resumed} of them by an earlier run)` : ''
      busy.message(done > 0 ? `${STAGES[stage]}: ${done} conversations${since}` : STAGES[stage])
    })
    const report = await whileBuilding(flags.out, () => buildData({ ...options, onProgress }))
    busy.stop(`${report.conversations} conversations → ${flags.out}`)
    if (flags.json) console.log(JSON.stringify(report))
    else log.message(reportTables(report))
  } catch (error) {
    busy.error('stopped')
    throw error
  }
}

function buildOptions(given: string[], flags: Flags): BuildOptions {
  const { conversations, answers } = flags
  const files = [...given, ...[conversations, answers].filter((file) => file !== undefined)]
  const raw = flags.raw ?? (files.length > 0 ? undefined : DEFAULT_RAW)
  const context = flags.context ?? flags.maxTokens
  const { profile, rule, out, turns, seed, testShare, threads, shard } = flags
  return {
    ...{ files, out, turns, seed, testShare, threads, model: modelOf(flags) },
    profile: chosenProfile(profile, rule),
    jsonl: flags.jsonl === true,
    strict: flags.strict === true,
    ...(raw !== undefined && { generated: rawConversations(raw, flags) }),
    ...(context !== undefined && { context }),
    ...(shard && { shard }),
  }
}

function rawConversations(raw: string, { pages, skipPages, inventedNames }: Flags) {
  const options: TldrOptions = {
    ...(pages === undefined ? {} : { pages }),
    ...(skipPages === undefined ? {} : { skip: skipPages }),
    ...(inventedNames === undefined ? {} : { inventedNames }),
  }
  return { key: JSON.stringify({ raw, options }), conversations: demoConversations(raw, options) }
}

function modelOf({ model, tokenizer, vocabSize, forkTokens, chatTemplate }: Flags): BuildOptions['model'] {
  if (model === undefined) {
    if (forkTokens !== undefined || chatTemplate !== undefined)
      throw new UserError('invalid_option', '--fork-tokens and --chat-template are for a --model')
    return {
      ...(tokenizer !== undefined && tokenizer !== 'train' && { file: tokenizer }),
      ...(vocabSize !== undefined && { vocabSize }),
    }
  }
  if (tokenizer !== undefined || vocabSize !== undefined)
    throw new UserError('invalid_option', '--tokenizer and --vocab-size are for a new model, without --model')
  const { path, adapter } = resolveModel(model)
  return {
    path,
    ...(adapter !== undefined && { adapter }),
    ...(forkTokens !== undefined && { forkTokens }),
    ...(chatTemplate !== undefined && { chatTemplate }),
  }
}

function forkTokens(text: string): ForkTokens {
  if (text === 'add') return 'add'
  const [fork, child] = /^(\d{1,8}),(\d{1,8})$/.exec(text)?.slice(1).map(Number) ?? []
  if (fork === undefined || child === undefined)
    throw new InvalidArgumentError('give add, or the ids of two tokens: 11,12')
  return [fork, child]
}

function inputShard(text: string): InputShard {
  const [number = 0, count = 0] = /^(\d{1,6})\/(\d{1,6})$/.exec(text)?.slice(1).map(Number) ?? []
  if (number < 1 || number > count) throw new InvalidArgumentError('give 1/4 for the first of four parts')
  return { index: number - 1, count }
}

/** Tables of what was built, of what is wrong with the input, and of how many answers each rule refused. */
export function reportTables(report: BuildReport): string {
  const built = new Table({ ...PLAIN, head: ['output', 'count'], colAligns: ['left', 'right'] })
  const { shards, structured, heldOut } = report
  const tokens = shards.train.shards.reduce((sum, shard) => sum + shard.tokens, 0)
  built.push(
    ['conversations', report.conversations],
    ...Object.entries(structured).map(([kind, count]) => [`structured: ${kind}`, count]),
    ['branches', report.branches],
    ['unstructured', report.unstructured],
    ['left out (refused.jsonl)', report.leftOut],
    ['later turns beyond the context', report.turnsCut],
    ['held out (structured)', `${heldOut.all} (${heldOut.structured})`],
    ['training examples', shards.train.examples],
    ['training tokens', tokens],
    ['longest path in tokens', Math.max(shards.train.longest_path, shards.test.longest_path)],
    ['vocabulary size', report.vocabSize],
  )
  const faults = Object.entries(report.faults).map(([fault, count]) => [fault, FAULTS[fault as Fault], count])
  const refused = Object.entries(report.refused)
    .sort((a, b) => b[1] - a[1])
    .map(([rule, count]) => [rule, reasonOf(rule as LeftOut), count])
  return [
    built.toString(),
    table(['fault of the input', 'what', 'count'], faults),
    table(['refused by rule', 'reason', 'count'], refused),
  ]
    .filter((text) => text !== '')
    .join('\n')
}

function table(head: string[], rows: (string | number)[][]): string {
  if (rows.length === 0) return ''
  const made = new Table({ ...PLAIN, head })
  made.push(...rows)
  return made.toString()
}

/** No colours and no lines between rows, because the report is also written to logs. */
const PLAIN = {
  style: { head: [], border: [] },
  chars: { mid: '', 'left-mid': '', 'mid-mid': '', 'right-mid': '' },
}
const REDRAW_MS = 100

/** Progress for output that is not a terminal, where each redraw would add a line. */
const LINES = { start: log.step, message: () => {}, stop: log.success, error: log.error }

const ON_ERRORS = { output: process.stderr }
/** With --json: the output has nothing but the report. */
const QUIET: typeof LINES = {
  start: (text) => log.step(text, ON_ERRORS),
  message: () => {},
  stop: (text) => log.success(text, ON_ERRORS),
  error: (text) => log.error(text, ON_ERRORS),
}

function throttled(show: (progress: BuildProgress) => void): (progress: BuildProgress) => void {
  let last = 0
  return (progress) => {
    const now = Date.now()
    if (now - last < REDRAW_MS && progress.done > 0) return
    last = now
    show(progress)
  }
}

function chosenProfile(name: ProfileName, rules: readonly string[] | undefined): Profile {
  if (rules === undefined) return PROFILES[name]
  if (name !== 'default')
    throw new UserError('invalid_option', `--rule changes the profile default, not ${name}`)
  return profileOf(rules)
}
