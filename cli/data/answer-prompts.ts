import type { Runner } from '../../gpu-node/requests/runner.ts'
import { BranchTree } from '../../shared/branch-tree.ts'
import { toAparError } from '../../shared/errors.ts'
import { type DoneEvent, errorOf } from '../../shared/protocol/events.ts'
import type { NodeBatch } from '../../shared/protocol/node.ts'
import type { GenerateRequest } from '../../shared/protocol/request.ts'
import type { Answer, AnswersFile, Sampling } from '../../training/data/prompts/answers-file.ts'
import type { Prompt } from '../../training/data/prompts/read-prompts.ts'
import { Repetition } from '../../training/data/prompts/repetition.ts'
import { hashText } from '../../training/data/random.ts'

/** A prompt that a busy machine could not encode in a server's time is asked again. */
const ATTEMPTS = 20

/** A prompt, and which of its answers. */
export interface Asked {
  readonly id: string
  readonly prompt: Prompt
}

export interface AnswerCounts {
  answers: number
  tokens: number
  /** Longer than the model's context. */
  tooLong: number
  readonly reasons: Map<string, number>
}

export interface AnswerPromptsOptions {
  readonly sampling: Sampling
  /** Requests that the engine has at a time. */
  readonly concurrency: number
  readonly onAnswer?: (counts: Readonly<AnswerCounts>) => void
}

/** The ids of a prompt's answers. Greedy ones are all the same, so that there is one. */
export function answerIds({ id }: Prompt, samples: number, { temperature, seed }: Sampling): string[] {
  if (temperature === 0) return [id]
  return Array.from({ length: samples }, (_, sample) => `${id}~${seed}.${sample}`)
}

/** Answers each prompt serially, without branches, many at a time, and appends the answers to a file. */
export async function answerPrompts(
  runner: Runner,
  asked: readonly Asked[],
  file: AnswersFile,
  { sampling, concurrency, onAnswer }: AnswerPromptsOptions,
): Promise<AnswerCounts> {
  const counts: AnswerCounts = { answers: 0, tokens: 0, tooLong: 0, reasons: new Map() }
  const waiting = asked.values()
  const work = async () => {
    for (const each of waiting) {
      const answer = await answerTo(runner, each, sampling)
      if (!answer) {
        counts.tooLong++
        continue
      }
      await file.add(answer)
      counts.answers++
      counts.tokens += answer.tokens
      counts.reasons.set(answer.finish_reason, (counts.reasons.get(answer.finish_reason) ?? 0) + 1)
      onAnswer?.(counts)
    }
  }
  await Promise.all(Array.from({ length: concurrency }, work))
  return counts
}

/** Undefined for a prompt that is longer than the context. */
async function answerTo(
  runner: Runner,
  { id, prompt }: Asked,
  sampling: Sampling,
): Promise<Answer | undefined> {
  const { system, temperature, top_p, max_tokens, dry_multiplier } = sampling
  const given = system === undefined ? [] : [{ role: 'system' as const, content: system }]
  const messages = [...given, ...prompt.messages]
  const request = {
    model: runner.model,
    messages,
    max_tokens,
    temperature,
    top_p,
    dry_multiplier,
    seed: hashText(`${sampling.seed}/${id}`),
    branching: { enabled: false },
  }
  try {
    const { text, finish_reason, tokens } = await generateAtLast(runner, request)
    const [only, ...more] = messages
    const dialog =
      only && more.length === 0
        ? { prompt: only.content, response: text }
        : { messages: [...messages, { role: 'assistant' as const, content: text }] }
    return { id, ...dialog, finish_reason, tokens, sampling }
  } catch (error) {
    if (toAparError(error).code === 'context_length_exceeded') return undefined
    throw error
  }
}

interface Generated extends Pick<Answer, 'finish_reason' | 'tokens'> {
  text: string
}

async function generateAtLast(runner: Runner, request: GenerateRequest): Promise<Generated> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await generate(runner, request)
    } catch (error) {
      if (toAparError(error).code !== 'request_timeout' || attempt === ATTEMPTS) throw error
    }
  }
}

function generate(runner: Runner, request: GenerateRequest): Promise<Generated> {
  const tree = new BranchTree()
  const repetition = new Repetition()
  const cancel = new AbortController()
  let cut: number | undefined
  return new Promise((resolve, reject) => {
    const publish = ({ events }: NodeBatch) => {
      for (const event of events) {
        tree.apply(event)
        if (event.type === 'error') reject(errorOf(event))
      }
      const text = tree.branch(0)?.text ?? ''
      cut ??= repetition.look(text)
      const last = events.at(-1)
      if (last?.type === 'done') resolve(toGenerated(text, last, cut))
      else if (cut !== undefined) cancel.abort()
    }
    const { signal } = cancel
    const started = runner.start('answer', request, publish, { signal })
    started.then((handle) => {
      if (signal.aborted) handle.cancel()
      else signal.addEventListener('abort', () => handle.cancel())
    }, reject)
  })
}

function toGenerated(text: string, { reason, usage }: DoneEvent, cut: number | undefined): Generated {
  const tokens = usage.completion_tokens
  if (cut !== undefined) return { text: text.slice(0, cut), finish_reason: 'repeats', tokens }
  return { text, finish_reason: reason === 'stop' ? 'stop' : 'length', tokens }
}
