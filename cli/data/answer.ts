import { mkdirSync } from 'node:fs'
import { dirname } from 'node:path'
import type { Command } from 'commander'
import type { Device, DType } from '../../gpu-node/engine/engine-config.ts'
import { openRunner } from '../../gpu-node/open-runner.ts'
import type { Speculation } from '../../shared/protocol/speculation.ts'
import { AnswersFile, type Sampling } from '../../training/data/prompts/answers-file.ts'
import { type Prompt, readPrompts } from '../../training/data/prompts/read-prompts.ts'
import { UserError } from '../explain.ts'
import { type JsonFlag, print, withJson } from '../json.ts'
import { resolveOrPull } from '../models/pull.ts'
import { MODEL_ARGUMENT } from '../models/resolve.ts'
import { adapterOf, servedName } from '../models/served-name.ts'
import {
  adapterOption,
  decimal,
  deviceOption,
  dtypeOption,
  integer,
  medusaOption,
  speculationOption,
} from '../options.ts'
import { type AnswerCounts, type Asked, answerIds, answerPrompts } from './answer-prompts.ts'

interface AnswerFlags extends JsonFlag {
  model: string
  adapter?: string
  medusa?: string
  prompts: string[]
  out: string
  samples: number
  temperature: number
  topP: number
  dryMultiplier?: number
  maxTokens: number
  maxPromptCharacters: number
  concurrency: number
  seed: number
  system?: string
  dtype?: DType
  device?: Device
  speculation?: Speculation
  threads?: number
}

const BLOCK_TOKENS = 16
/** Room in the KV cache for each request's prompt. */
const PROMPT_TOKENS = 1024
/** Requests beyond those that the engine runs, so that it never waits for one. */
const AHEAD = 8
const REPORT_MS = 15_000

/** Adds `apar data answer`. */
export function registerAnswer(data: Command): void {
  withJson(data.command('answer'))
    .description(
      "a model's own answers to prompts, for self-distillation: JSONL of {id, prompt, response, finish_reason, …}",
    )
    .requiredOption('--model <model>', MODEL_ARGUMENT)
    .addOption(adapterOption())
    .addOption(medusaOption())
    .requiredOption(
      '--prompts <files...>',
      'JSONL of {prompt}, {messages} or {turns}, .gz as well; see apar data prompts',
    )
    .requiredOption('--out <file>', 'answers are appended; those that it has already are not made again')
    .option('--samples <n>', 'answers per prompt, with --temperature', integer(1, 1000), 1)
    .option('--temperature <t>', '0 is greedy', decimal(0, 2), 0)
    .option('--top-p <p>', 'of sampling', decimal(0, 1), 1)
    .option(
      '--dry-multiplier <m>',
      "keeps answers from going round in circles (DRY); llama.cpp's servers use 0.8",
      decimal(0, 100),
    )
    .option(
      '--max-tokens <n>',
      'longest answer; what is cut there says finish_reason length',
      integer(1, 1_000_000),
      640,
    )
    .option('--max-prompt-characters <n>', 'longer prompts are left out', integer(1, 1_000_000), 100_000)
    .option('--concurrency <n>', 'answers at a time', integer(1, 4096), 64)
    .option('--seed <number>', 'of sampling', integer(0, 2 ** 32 - 1), 1)
    .option('--system <text>', "system message (default: what the model's template says)")
    .addOption(dtypeOption())
    .addOption(deviceOption())
    .addOption(speculationOption())
    .option('--threads <n>', 'threads of the CPU backend (default: physical cores)', integer(1, 256))
    .action(answer)
}

async function answer(flags: AnswerFlags): Promise<void> {
  const { temperature, samples, concurrency } = flags
  if (temperature === 0 && samples > 1) {
    throw new UserError('invalid_option', '--samples: greedy answers are all the same: give a --temperature')
  }
  const { prompts, known, long } = await read(flags)
  const model = await resolveOrPull(flags.model)
  mkdirSync(dirname(flags.out), { recursive: true })
  const runner = await openRunner(model.path, {
    name: servedName(model, flags),
    adapter: adapterOf(model, flags),
    medusa: flags.medusa,
    dtype: flags.dtype,
    device: flags.device,
    speculation: flags.speculation,
    threads: flags.threads,
    maxBranches: concurrency,
    maxRequests: concurrency + AHEAD,
    numBlocks: Math.ceil(((concurrency + AHEAD) * (flags.maxTokens + PROMPT_TOKENS)) / BLOCK_TOKENS),
    onWarning: (warning) => console.error(`apar: ${warning}`),
  })
  try {
    const sampling: Sampling = {
      model: runner.model,
      dtype: runner.engineInfo.dtype,
      temperature,
      top_p: flags.topP,
      max_tokens: flags.maxTokens,
      ...(flags.dryMultiplier !== undefined && { dry_multiplier: flags.dryMultiplier }),
      seed: flags.seed,
      ...(flags.system !== undefined && { system: flags.system }),
    }
    const file = await AnswersFile.open(flags.out, sampling)
    try {
      const all = prompts.flatMap((prompt): Asked[] =>
        answerIds(prompt, samples, sampling).map((id) => ({ id, prompt })),
      )
      const asked = all.filter(({ id }) => !file.present.has(id))
      console.error(
        `apar: ${all.length} answers to make, ${all.length - asked.length} are there; ` +
          `left out: ${known} repeated prompts, ${long} long ones`,
      )
      const counts = await answerPrompts(runner, asked, file, {
        sampling,
        concurrency: concurrency + AHEAD,
        onAnswer: progress(asked.length),
      })
      print(flags, { out: flags.out, ...counts }, () => {
        return `${counts.answers} answers → ${flags.out}: ${describe(counts)}`
      })
    } finally {
      await file.close()
    }
  } finally {
    await runner.close()
  }
}

/** The prompts of all files, each text once. */
async function read(flags: AnswerFlags): Promise<{ prompts: Prompt[]; known: number; long: number }> {
  const prompts: Prompt[] = []
  const texts = new Set<string>()
  const ids = new Set<string>()
  let long = 0
  let known = 0
  for (const path of flags.prompts) {
    for await (const prompt of readPrompts(path)) {
      const text = JSON.stringify(prompt.messages)
      const length = prompt.messages.reduce((sum, { content }) => sum + content.length, 0)
      if (texts.has(text)) known++
      else if (length > flags.maxPromptCharacters) long++
      else {
        if (ids.has(prompt.id))
          throw new UserError('invalid_option', `--prompts: ${prompt.id} is the id of two prompts`)
        ids.add(prompt.id)
        prompts.push(prompt)
      }
      texts.add(text)
    }
  }
  return { prompts, known, long }
}

function progress(total: number): (counts: Readonly<AnswerCounts>) => void {
  const begun = performance.now()
  let reported = begun
  return (counts) => {
    const now = performance.now()
    if (now - reported < REPORT_MS) return
    reported = now
    const seconds = (now - begun) / 1000
    const left = ((total - counts.answers) * seconds) / counts.answers
    const rate = Math.round(counts.tokens / seconds)
    console.error(
      `apar: ${counts.answers} of ${total} answers, ${rate} tok/s, about ${Math.ceil(left / 60)} min left`,
    )
  }
}

function describe({ tokens, reasons, tooLong }: AnswerCounts): string {
  const ends = [...reasons].map(([reason, count]) => `${count} ${reason}`).join(', ')
  return `${ends || 'none new'}; ${tokens} tokens; ${tooLong} prompts do not fit the context`
}
