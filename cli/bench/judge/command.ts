import { writeFileSync } from 'node:fs'
import { type Command, Option } from 'commander'
import { UserError } from '../../explain.ts'
import { integer, url } from '../../options.ts'
import { markdownTable, type ReportTable, terminalTable } from '../../report/table.ts'
import { DATASETS, datasetFile, readQuestions } from '../../trace/dataset.ts'
import { RequestFailed } from '../serving/target/answer.ts'
import { httpTarget } from '../serving/target/http-target.ts'
import { ROUTES } from '../serving/target/routes.ts'
import { type AnswerSet, readAnswers } from './answers.ts'
import { askJudge } from './ask-judge.ts'
import { type JudgeMode, judgePromptsFile, readJudgePrompts } from './judge-prompts.ts'
import { Judgments } from './judgments.ts'
import { type JudgedQuestion, type Match, matchesOf } from './matches.ts'
import { type PairSummary, type RatingSummary, summarisePairs, summariseRatings } from './summary.ts'

interface Flags {
  answers: string[]
  mode?: JudgeMode
  dataset?: string
  data?: string
  judgePrompts?: string
  references?: string
  url: string
  key?: string
  model: string
  out: string
  limit?: number
  concurrency: number
  maxTokens: number
  timeout: number
  markdown?: string
  json?: true
}

const REPORT_MS = 15_000

/** Adds `apar bench judge`. */
export function registerJudge(bench: Command): void {
  bench
    .command('judge')
    .description('lets a model compare answers, or rate them, with the judge prompts of FastChat')
    .requiredOption(
      '--answers <files...>',
      "one or two sets: FastChat's model answers, or FILE#MODE of apar bench serving --out",
    )
    .requiredOption('--url <url>', 'the judge: a server with chat completions', url('http:', 'https:'))
    .requiredOption('--model <model>', 'its name there')
    .requiredOption('--out <file>', 'judgments as JSON lines; those that are there are not asked for again')
    .option('--key <key>', 'API key of the judge (default: APAR_JUDGE_KEY)')
    .addOption(
      new Option('--mode <mode>', 'default: pairwise for two sets, else single').choices([
        'pairwise',
        'single',
      ]),
    )
    .option(
      '--dataset <set>',
      `the questions: ${DATASETS.join(', ')}, or a JSONL file (default: the prompts of apar bench serving --out)`,
    )
    .option(
      '--data <folder>',
      'llm_judge/data of FastChat, or a folder with its files (default: APAR_EVAL_DATA)',
    )
    .option('--judge-prompts <file>', 'judge_prompts.jsonl of FastChat (default: in --data)')
    .option(
      '--references <file>',
      "reference answers, for FastChat's prompts that judge mathematics and code",
    )
    .option('--limit <n>', 'the first questions only', integer(1, 1_000_000))
    .option('--concurrency <n>', 'questions to the judge at a time', integer(1, 4096), 4)
    .option('--max-tokens <n>', 'of a judgment', integer(1, 1_000_000), 2048)
    .option(
      '--timeout <seconds>',
      'without any byte, after which a request has failed',
      integer(1, 86_400),
      600,
    )
    .option('--markdown <file>', 'write the table there')
    .option('--json', 'print the figures as JSON instead of a table')
    .action(judge)
}

async function judge(flags: Flags): Promise<void> {
  const { model, answers: specs, mode = specs.length === 2 ? 'pairwise' : 'single' } = flags
  if (specs.length > 2 || (mode === 'pairwise' && specs.length !== 2))
    throw new UserError('invalid_option', '--answers: one set is rated, or two are compared')
  const data = flags.data ?? process.env.APAR_EVAL_DATA
  const prompts = await readJudgePrompts(judgePromptsFile(flags.judgePrompts, data))
  const sets = await Promise.all(specs.map((spec) => readAnswers(spec)))
  const references = flags.references === undefined ? undefined : await readAnswers(flags.references)
  const questions = (await questionsOf(flags.dataset, data, sets)).slice(0, flags.limit)
  const matches = matchesOf({ mode, questions, sets, references, prompts })
  if (matches.length === 0)
    throw new UserError('invalid_option', '--answers: no question is answered in all sets')
  const judgments = new Judgments(flags.out)
  const names = sets.map(({ name }) => name)
  const baseUrl = flags.url.replace(/\/+$/, '').replace(/\/v1$/, '')
  const key = flags.key ?? process.env.APAR_JUDGE_KEY
  const target = httpTarget(ROUTES.chat, { baseUrl, key, silenceMs: 1000 * flags.timeout })
  const { maxTokens, concurrency } = flags
  try {
    await askJudge(matches, {
      target,
      model,
      maxTokens,
      concurrency,
      judgments,
      names,
      onProgress: progress(),
    })
  } catch (error) {
    if (!(error instanceof RequestFailed)) throw error
    throw new UserError('not_measured', `the judge failed: ${error.message} (${error.code})`)
  } finally {
    target.close()
  }
  const { figures, table } = reportOf(mode, matches, judgments, model, names)
  if (flags.markdown !== undefined) writeFileSync(flags.markdown, markdownTable(table))
  if (flags.json) console.log(JSON.stringify({ mode, judge: model, sets: names, categories: figures }))
  else console.log(terminalTable(table))
}

function reportOf(
  mode: JudgeMode,
  matches: readonly Match[],
  judgments: Judgments,
  model: string,
  names: readonly string[],
): { figures: object[]; table: ReportTable } {
  if (mode === 'pairwise') {
    const figures = summarisePairs(matches, judgments, model)
    return { figures, table: pairTable(figures, names) }
  }
  const figures = summariseRatings(matches, judgments, model, names.length)
  return { figures, table: ratingTable(figures, names) }
}

/** @throws UserError `missing_option` where neither a set of questions nor the answers have them. */
async function questionsOf(
  dataset: string | undefined,
  data: string | undefined,
  sets: readonly AnswerSet[],
): Promise<JudgedQuestion[]> {
  if (dataset !== undefined) return await readQuestions(datasetFile(dataset, data))
  return [...(sets[0]?.answers ?? [])].map(([id, { prompt }]) => {
    if (prompt === undefined)
      throw new UserError('missing_option', '--dataset is needed: these answers have no questions')
    return { id, category: 'all', turns: [prompt] }
  })
}

function pairTable(figures: readonly PairSummary[], names: readonly string[]): ReportTable {
  return {
    title: `${names.join(' against ')}, each pair in both orders`,
    head: ['category', 'pairs', 'wins', 'ties', 'losses', 'inconsistent', 'unjudged', 'win rate'],
    rows: figures.map(({ category, pairs, wins, ties, losses, inconsistent, unjudged, win_rate }) => [
      category,
      ...[pairs, wins, ties, losses, inconsistent, unjudged].map(String),
      win_rate === null ? '–' : `${(100 * win_rate).toFixed(1)} %`,
    ]),
  }
}

function ratingTable(figures: readonly RatingSummary[], names: readonly string[]): ReportTable {
  return {
    title: 'Ratings from 1 to 10',
    head: ['category', ...names.flatMap((name) => [name, 'answers', 'unjudged'])],
    rows: figures.map(({ category, ratings }) => [
      category,
      ...ratings.flatMap(({ mean, count, unjudged }) => [
        mean === null ? '–' : mean.toFixed(2),
        ...[count, unjudged].map(String),
      ]),
    ]),
  }
}

function progress(): (done: number, of: number) => void {
  let reported = 0
  return (done, of) => {
    const now = performance.now()
    if (done !== of && reported !== 0 && now - reported < REPORT_MS) return
    reported = now
    console.error(`apar: ${done} of ${of} judgments`)
  }
}
