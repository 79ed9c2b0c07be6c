import { log, spinner } from '@clack/prompts'
import Table from 'cli-table3'
import type { Command } from 'commander'
import { type BuildProgress, type BuildReport, buildData } from '../../training/data/build.ts'
import type { Conversation } from '../../training/data/conversation.ts'
import { RULES, type Rule } from '../../training/data/extract/structure.ts'
import { demoConversations } from '../../training/data/sources/demo.ts'
import { answerConversations, jsonlConversations } from '../../training/data/sources/jsonl.ts'
import { decimal, integer } from '../options.ts'

interface Flags {
  raw?: string
  conversations?: string
  answers?: string
  pages?: number
  skipPages?: number
  inventedNames?: number
  out: string
  seed: number
  testShare: number
  maxTokens: number
  vocabSize: number
  tokenizer?: string
  jsonl?: true
}

const DEFAULT_RAW = '../shared/data'

const STAGES: Record<BuildProgress['stage'], string> = {
  extract: 'extracting structure',
  tokenizer: 'training the tokenizer',
  shards: 'writing shards',
}

/** Adds `apar data build`. */
export function registerBuild(data: Command): void {
  data
    .command('build')
    .description('structured extraction, rows, tokenizer and token shards, with a report')
    .option(
      '--raw <folder>',
      `the demo model's raw data (tldr pages); default without another source: ${DEFAULT_RAW}`,
    )
    .option('--conversations <file>', 'JSONL of {id, dialogs: [{prompt, response}]}, .gz as well')
    .option('--answers <file>', 'JSONL of {prompt, response}, .gz as well')
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
    .option('--out <folder>', 'output folder', 'work/data')
    .option('--seed <number>', 'of the random choice of held-out data', integer(0, 2 ** 32 - 1), 1)
    .option('--test-share <share>', 'share held out, 0 to 1', decimal(0, 1), 0.12)
    .option('--max-tokens <count>', 'longest row', integer(16, 1_000_000), 512)
    .option('--vocab-size <count>', 'vocabulary size of the trained tokenizer', integer(300, 1_000_000), 4096)
    .option('--tokenizer <file>', 'use this tokenizer.json instead of training one')
    .option('--jsonl', 'also write input_ids and labels as JSONL (TRL, axolotl)')
    .action(build)
}

async function build(flags: Flags): Promise<void> {
  const conversations = sources(flags)
  const busy = process.stdout.isTTY ? spinner() : LINES
  busy.start(STAGES.extract)
  try {
    const report = await buildData({
      conversations,
      out: flags.out,
      seed: flags.seed,
      testShare: flags.testShare,
      maxTokens: flags.maxTokens,
      vocabSize: flags.vocabSize,
      ...(flags.tokenizer === undefined ? {} : { tokenizer: flags.tokenizer }),
      jsonl: flags.jsonl === true,
      onProgress: throttled(({ stage, done }) =>
        busy.message(done > 0 ? `${STAGES[stage]}: ${done} conversations` : STAGES[stage]),
      ),
    })
    busy.stop(`${report.conversations} conversations → ${flags.out}`)
    log.message(reportTables(report))
  } catch (error) {
    busy.error('stopped')
    throw error
  }
}

async function* sources(flags: Flags): AsyncGenerator<Conversation> {
  const raw = flags.raw ?? (flags.conversations || flags.answers ? undefined : DEFAULT_RAW)
  if (raw) {
    yield* demoConversations(raw, {
      ...(flags.pages === undefined ? {} : { pages: flags.pages }),
      ...(flags.skipPages === undefined ? {} : { skip: flags.skipPages }),
      ...(flags.inventedNames === undefined ? {} : { inventedNames: flags.inventedNames }),
    })
  }
  if (flags.conversations) yield* jsonlConversations(flags.conversations)
  if (flags.answers) yield* answerConversations(flags.answers)
}

/** Two tables: what was built, and how many answers each rule refused. */
export function reportTables(report: BuildReport): string {
  const built = new Table({ ...PLAIN, head: ['output', 'count'], colAligns: ['left', 'right'] })
  built.push(
    ['conversations', report.conversations],
    ['ordered lists', report.lists],
    ['paragraphs', report.paragraphs],
    ['branches', report.branches],
    ['kept as unstructured', report.unstructured],
    ['dropped', report.dropped],
    ['not in the shards: too long', report.tooLong],
    ['held out (structured)', `${report.heldOut.all} (${report.heldOut.structured})`],
    ['training rows', report.shards.train.rows],
    ['training tokens', report.shards.train.shards.reduce((sum, shard) => sum + shard.tokens, 0)],
    ['vocabulary size of the tokenizer', report.vocabSize],
  )
  const refused = new Table({ ...PLAIN, head: ['refused by rule', 'reason', 'count'] })
  const counts = Object.entries(report.refused).sort((a, b) => b[1] - a[1])
  for (const [rule, count] of counts) refused.push([rule, RULES[rule as Rule], count])
  return counts.length > 0 ? `${built}\n${refused}` : built.toString()
}

/** No colours and no lines between rows, because the report is also written to logs. */
const PLAIN = {
  style: { head: [], border: [] },
  chars: { mid: '', 'left-mid': '', 'mid-mid': '', 'right-mid': '' },
}
const REDRAW_MS = 100

/** Progress for output that is not a terminal, where each redraw would add a line. */
const LINES = { start: log.step, message: () => {}, stop: log.success, error: log.error }

function throttled(show: (progress: BuildProgress) => void): (progress: BuildProgress) => void {
  let last = 0
  return (progress) => {
    const now = Date.now()
    if (now - last < REDRAW_MS && progress.done > 0) return
    last = now
    show(progress)
  }
}
