import type { Completion, CompletionLogprobs, FinishReason } from '../../shared/openai.ts'
import { Choice } from '../streams/http/choice.ts'
import type { Streams } from '../streams/http/streams.ts'
import { EchoedPrompt, type PlacedRow } from './echoed-prompt.ts'
import { traceChunk } from './trace-chunk.ts'
import { openAiUsage, runningUsage } from './usage.ts'

export interface CompletionOptions {
  /** Choices per prompt. */
  readonly n: number
  /** How many are generated for each prompt; the `n` best ones are returned. */
  readonly candidates: number
  readonly includeUsage: boolean
  readonly logprobs: boolean
  readonly stop: readonly string[]
  /** The prompts that the texts begin with; undefined without `echo`. */
  readonly echo?: readonly (string | number[])[] | undefined
  /** The answer has no text and no tokens of its own. */
  readonly promptOnly: boolean
  /** Every chunk has the usage until then. */
  readonly countsTokens?: boolean | undefined
}

/** The streams of a call as chunks of OpenAI's legacy completions. @throws AparError for a stream that fails. */
export async function* completionChunks(
  streams: Streams,
  { n, includeUsage, logprobs, stop, echo, promptOnly, countsTokens }: CompletionOptions,
): AsyncGenerator<Completion, void> {
  const head = headOf(streams)
  const all = streams.accepted.map((accepted) => new Choice(accepted, stop))
  const prompts = all.map((_, index) => new EchoedPrompt(echo?.[Math.floor(index / n)]))
  const usage = () => (countsTokens && !promptOnly ? runningUsage(streams.accepted, all, n) : null)
  const chunk = (index: number, text: string, rows: readonly PlacedRow[], finish: FinishReason | null) => {
    const choice = { index, text, logprobs: logprobs ? completionLogprobs(rows) : null }
    return {
      ...head,
      choices: [{ ...choice, finish_reason: finish }],
      ...(includeUsage && { usage: usage() }),
    }
  }
  for (const [index, prompt] of prompts.entries()) {
    if (prompt.text !== '' && !prompt.waits(logprobs)) yield chunk(index, prompt.text, [], null)
  }
  for await (const [index, event] of streams.events) {
    const choice = all[index]
    const prompt = prompts[index]
    if (!choice || !prompt) continue
    if (event.type === 'prompt') {
      const rows = prompt.push(event)
      const text = rows.map(({ shown }) => shown).join('')
      if (rows.length > 0) yield chunk(index, text, logprobs ? rows : [], null)
      continue
    }
    const growth = choice.push(event)
    if (promptOnly) {
      if (event.type === 'done') yield chunk(index, '', [], 'length')
      continue
    }
    if (growth.text !== '' || growth.logprobs.length > 0)
      yield chunk(index, growth.text, prompt.shifted(growth.logprobs), null)
    if (event.type === 'trace') yield { ...chunk(index, '', [], null), apar: traceChunk(event) }
    if (event.type === 'done') yield chunk(index, '', [], choice.finishReason)
  }
  if (includeUsage) yield { ...head, choices: [], usage: usageOf(all, n, promptOnly) }
}

/** A choice that is read to its end. */
interface Candidate {
  readonly choice: Choice
  readonly prompt: EchoedPrompt
  text: string
  readonly rows: PlacedRow[]
  /** Of the tokens of its text, and how many they are. */
  logprobSum: number
  tokens: number
}

/** The whole answer. @throws AparError for a stream that fails. */
export async function completion(
  streams: Streams,
  {
    n,
    candidates,
    logprobs,
    stop,
    echo,
    promptOnly,
  }: Omit<CompletionOptions, 'includeUsage' | 'countsTokens'>,
): Promise<Completion> {
  const all = streams.accepted.map((accepted, index): Candidate => {
    const prompt = new EchoedPrompt(echo?.[Math.floor(index / candidates)])
    return { choice: new Choice(accepted, stop), prompt, text: '', rows: [], logprobSum: 0, tokens: 0 }
  })
  for await (const [index, event] of streams.events) {
    const one = all[index]
    if (!one) continue
    if (event.type === 'prompt') {
      one.rows.push(...one.prompt.push(event))
      continue
    }
    const growth = one.choice.push(event)
    if (promptOnly) continue
    one.text += growth.text
    one.rows.push(...one.prompt.shifted(growth.logprobs))
    one.logprobSum += growth.logprobs.reduce((sum, { logprob }) => sum + logprob, 0)
    one.tokens += growth.logprobs.length
  }
  return {
    ...headOf(streams),
    choices: bestOf(all, n, candidates).map(({ choice, prompt, text, rows }, index) => ({
      index,
      text: prompt.text + text,
      logprobs: logprobs ? completionLogprobs(rows) : null,
      finish_reason: promptOnly ? 'length' : choice.finishReason,
      ...choice.apar,
    })),
    usage: usageOf(
      all.map(({ choice }) => choice),
      candidates,
      promptOnly,
    ),
  }
}

/** The `n` of each prompt's candidates whose tokens are the most likely ones on average, the best one first. */
function bestOf(all: readonly Candidate[], n: number, candidates: number): readonly Candidate[] {
  if (candidates === n) return all
  const mean = ({ logprobSum, tokens }: Candidate) => (tokens === 0 ? 0 : logprobSum / tokens)
  const prompts = Array.from({ length: all.length / candidates }, (_, prompt) => prompt * candidates)
  return prompts.flatMap((first) => {
    const own = all.slice(first, first + candidates)
    return own.sort((a, b) => mean(b) - mean(a)).slice(0, n)
  })
}

function headOf({ accepted: [first] }: Streams) {
  if (!first) throw new Error('no stream was started')
  const { stream, created, model, fingerprint = null } = first
  return {
    id: `cmpl-${stream}`,
    object: 'text_completion' as const,
    created,
    model,
    system_fingerprint: fingerprint,
  }
}

function usageOf(choices: readonly Choice[], n: number, promptOnly: boolean) {
  const usages = choices.map(({ usage }) => usage)
  return openAiUsage(promptOnly ? usages.map((usage) => ({ ...usage, completion_tokens: 0 })) : usages, n)
}

function completionLogprobs(rows: readonly PlacedRow[]): CompletionLogprobs {
  return {
    tokens: rows.map(({ token }) => token),
    token_logprobs: rows.map(({ logprob }) => logprob),
    top_logprobs: rows.map(({ logprob, top }) =>
      logprob === null ? null : Object.fromEntries(top.map((one) => [one.token, one.logprob])),
    ),
    text_offset: rows.map(({ offset }) => offset),
  }
}
