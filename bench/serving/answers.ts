import { existsSync } from 'node:fs'
import { z } from 'zod'
import { readAnswers } from '../../cli/bench/judge/answers.ts'
import type { BenchPrompt, Workload } from '../../cli/bench/serving/workload/workload.ts'
import type { AnswerForcer } from '../../cli/replay/forced-answer.ts'
import { readQuestions } from '../../cli/trace/dataset.ts'
import { parse } from '../../shared/parse.ts'
import type { ForcedBranch } from '../../shared/protocol/node.ts'
import { readJsonValues } from '../../training/data/input/json-values.ts'

/** Vicuna-bench and published answers to it, where they lie beside the repository. */
const PUBLISHED = {
  questions: '../shared/data/eval/vicuna_bench.jsonl',
  answers: '../shared/data/eval/vicuna_bench_answers/answer_vicuna-13b.jsonl',
}
/** Elsewhere: what the default model's base said to the prompts that it was tuned with. */
const OWN = 'models/smollm2-135m-apar/data/answers-greedy.jsonl.zst'
const OWN_COUNT = 80
const OwnAnswer = z.looseObject({ id: z.string(), prompt: z.string(), response: z.string() })

interface Answered {
  readonly id: string
  readonly prompt: string
  readonly answer: string
}

/** An answer as the engine is made to give it. */
export interface ReplayedAnswer {
  readonly id: string
  readonly prompt: string
  readonly forced: readonly ForcedBranch[]
  readonly tokens: number
}

/** The answers whose structure is replayed. */
export class ReplayedAnswers {
  readonly name: string
  readonly #all: readonly ReplayedAnswer[]
  readonly #forking: ReadonlySet<string>

  constructor(name: string, all: readonly ReplayedAnswer[]) {
    if (all.length === 0) throw new Error(`${name} has no answers`)
    this.name = name
    this.#all = all
    this.#forking = new Set(all.filter(({ forced }) => forced.length > 1).map(({ id }) => id))
  }

  get meanTokens(): number {
    return this.#all.reduce((sum, { tokens }) => sum + tokens, 0) / this.#all.length
  }

  /** Whether the answer of a request has branches; `id` is that of a workload of {@link take}. */
  forks(id: string): boolean {
    return this.#forking.has(id.replace(/#\d+$/, ''))
  }

  /** The shorter half: for runs that are to be short. */
  shorter(): ReplayedAnswers {
    const lengths = this.#all.map(({ tokens }) => tokens).sort((a, b) => a - b)
    const most = lengths[Math.floor((lengths.length - 1) / 2)] ?? 0
    return new ReplayedAnswers(
      this.name,
      this.#all.filter(({ tokens }) => tokens <= most),
    )
  }

  /** So many requests, spread over the whole set, whose categories follow each other; again from its begin if it has fewer. */
  take(count: number): Workload {
    const { length } = this.#all
    const prompts = Array.from({ length: count }, (_, index): BenchPrompt => {
      const lap = Math.floor(index / length)
      const inLap = Math.min(length, count - lap * length)
      const each = this.#all[Math.floor(((index % length) * length) / inLap)] as ReplayedAnswer
      return {
        id: lap === 0 ? each.id : `${each.id}#${lap + 1}`,
        messages: [{ role: 'user', content: each.prompt }],
        outputTokens: undefined,
        forced: each.forced,
      }
    })
    return {
      ...{ name: this.name, size: count, isRandom: false, recorded: undefined },
      prompts: () => prompts,
    }
  }
}

/** Vicuna-bench's answers, or the project's own where these are not to be had. */
export async function readReplayedAnswers(forcer: AnswerForcer): Promise<ReplayedAnswers> {
  const published = Object.values(PUBLISHED).every((path) => existsSync(path))
  const { name, answered } = published ? await readPublished() : await readOwn()
  const all = answered.map(({ id, prompt, answer }) => {
    const forced = forcer.force(answer)
    return { id, prompt, forced, tokens: forced.reduce((sum, { tokens }) => sum + tokens.length, 0) }
  })
  return new ReplayedAnswers(name, all)
}

async function readPublished(): Promise<{ name: string; answered: Answered[] }> {
  const { name, answers } = await readAnswers(PUBLISHED.answers)
  const questions = await readQuestions(PUBLISHED.questions)
  const answered = questions.flatMap(({ id, turns: [prompt = ''] }) => {
    const answer = answers.get(id)?.turns[0]
    return answer ? [{ id, prompt, answer }] : []
  })
  return { name: `Vicuna-bench, answers of ${name}`, answered }
}

async function readOwn(): Promise<{ name: string; answered: Answered[] }> {
  const answered: Answered[] = []
  for await (const { value } of readJsonValues(OWN)) {
    const { id, prompt, response } = parse(OwnAnswer, value)
    answered.push({ id, prompt, answer: response })
    if (answered.length === OWN_COUNT) break
  }
  return { name: 'answers of SmolLM2 135M to its own prompts', answered }
}
