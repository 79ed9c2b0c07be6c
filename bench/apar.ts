import { DEFAULT_MODEL } from '../cli/models/default-model.ts'
import { resolveModel } from '../cli/models/resolve.ts'
import { adapterOf } from '../cli/models/served-name.ts'
import { openRunner } from '../gpu-node/open-runner.ts'
import type { Runner } from '../gpu-node/requests/runner.ts'
import type { Prompt } from '../training/data/prompts/read-prompts.ts'
import { type Answer, ask, MODES } from './apar/ask.ts'
import { defaultPrompts, readAll } from './apar/prompts.ts'
import { type Repetition, repetitionOf } from './apar/sampling.ts'
import { type Answered, summarise, verdictOf } from './apar/summary.ts'
import { type BenchOptions, type BenchResult, commit, machine, SampleFile } from './report.ts'

const QUICK_EVERY = 8
/** Limits the weight of an answer that does not end by itself. */
const MAX_TOKENS = 640
/** The base's weights rounded: how far its answers go apart for that alone is what a tuned model can be held to. */
const ROUNDED = 'int8'
/** Base answers at a time: they are not timed. */
const CONCURRENCY = 32

/**
 * What a forking model is worth: how often it forks where its base lists things and where it does not, whether the
 * forks are well-formed, and the speed of parallel against serial decoding. Greedy, one request at a time on one
 * engine, the two modes in turn, without drafts (bench medusa has those).
 */
export async function apar({ quick, flags }: BenchOptions): Promise<BenchResult> {
  const name = flags.model ?? DEFAULT_MODEL
  const model = resolveModel(name)
  const adapter = adapterOf(model, flags)
  const all = await readAll(flags.prompts ?? defaultPrompts(name))
  const prompts = quick ? all.filter((_, index) => index % QUICK_EVERY === 0) : all
  const options = { dtype: flags.dtype, device: flags.device }
  const basePath = flags.base === undefined ? adapter && model.path : resolveModel(flags.base).path
  const repetition = adapter === undefined ? undefined : repetitionOf(adapter)
  const answersOfBase = async (options: EngineOptions) =>
    basePath === undefined ? undefined : await baseAnswers(basePath, prompts, options, repetition)
  const bases = await answersOfBase(options)
  const rounded = await answersOfBase({ ...options, dtype: ROUNDED })
  const runner = await openRunner(model.path, { ...options, adapter })
  const file = new SampleFile('apar')
  const answered: Answered[] = []
  try {
    for (const [index, prompt] of prompts.entries()) {
      const answers = await bothWays(runner, prompt, index, flags.repetitions ?? 1)
      const base = bases?.[index] ?? answers.serial
      const text = prompt.messages.at(-1)?.content ?? ''
      const all = { id: prompt.id, prompt: text, base, roundedBase: rounded?.[index], ...answers }
      answered.push(all)
      file.add({ bench: 'apar', model: name, ...all, verdict: verdictOf(all) })
      if ((index + 1) % 10 === 0) console.error(`apar: ${index + 1} of ${prompts.length} prompts`)
    }
  } finally {
    await runner.close()
  }
  const cases = summarise(answered, bases !== undefined)
  return { bench: 'apar', commit: commit(), machine: machine(), samples: file.path, cases }
}

type EngineOptions = Pick<NonNullable<Parameters<typeof openRunner>[1]>, 'dtype' | 'device'>

async function baseAnswers(
  path: string,
  prompts: readonly Prompt[],
  options: EngineOptions,
  repetition: Repetition | undefined,
): Promise<Answer[]> {
  const runner = await openRunner(path, { ...options, maxBranches: CONCURRENCY })
  const answers: Answer[] = []
  const waiting = prompts.entries()
  const work = async () => {
    for (const [index, prompt] of waiting) {
      answers[index] = await ask(runner, prompt, { mode: 'serial', maxTokens: MAX_TOKENS, repetition })
      if ((index + 1) % CONCURRENCY === 0)
        console.error(`apar: base: ${index + 1} of ${prompts.length} prompts`)
    }
  }
  try {
    await Promise.all(Array.from({ length: CONCURRENCY }, work))
  } finally {
    await runner.close()
  }
  return answers
}

/** The answers of both modes, the same in every repetition; which mode is first changes from prompt to prompt. */
async function bothWays(runner: Runner, prompt: Prompt, index: number, repetitions: number) {
  // After it the prompt is in the prefix cache, for both modes.
  await ask(runner, prompt, { mode: 'serial', maxTokens: 1 })
  const answers: Partial<Record<(typeof MODES)[number], Answer>> = {}
  const wallMs = { parallel: [] as number[], serial: [] as number[] }
  for (let repetition = 0; repetition < repetitions; repetition++) {
    const order = (index + repetition) % 2 === 0 ? MODES : MODES.toReversed()
    for (const mode of order) {
      const answer = await ask(runner, prompt, { mode, maxTokens: MAX_TOKENS, speculation: 'off' })
      answers[mode] ??= answer
      wallMs[mode].push(answer.wallMs)
    }
  }
  const { parallel, serial } = answers
  if (!parallel || !serial) throw new Error('no repetition')
  return { parallel, serial, wallMs }
}
