import type { Completion, CompletionLogprobs, FinishReason } from '../../shared/openai.ts'
import { Choice, type PlacedLogprob } from '../streams/http/choice.ts'
import type { Streams } from '../streams/http/streams.ts'
import { traceChunk } from './trace-chunk.ts'
import { openAiUsage } from './usage.ts'

export interface CompletionOptions {
  /** Choices per prompt. */
  readonly n: number
  readonly includeUsage: boolean
  readonly logprobs: boolean
  readonly stop: readonly string[]
}

/** The streams of a call as chunks of OpenAI's legacy completions. @throws AparError for a stream that fails. */
export async function* completionChunks(
  streams: Streams,
  { n, includeUsage, logprobs, stop }: CompletionOptions,
): AsyncGenerator<Completion, void> {
  const head = headOf(streams)
  const all = streams.accepted.map((accepted) => new Choice(accepted, stop))
  const chunk = (
    index: number,
    text: string,
    rows: readonly PlacedLogprob[],
    finish: FinishReason | null,
  ) => {
    const choice = { index, text, logprobs: logprobs ? completionLogprobs(rows) : null }
    return { ...head, choices: [{ ...choice, finish_reason: finish }], ...(includeUsage && { usage: null }) }
  }
  for await (const [index, event] of streams.events) {
    const choice = all[index]
    if (!choice) continue
    const growth = choice.push(event)
    if (growth.text !== '') yield chunk(index, growth.text, growth.logprobs, null)
    if (event.type === 'trace') yield { ...chunk(index, '', [], null), apar: traceChunk(event) }
    if (event.type === 'done') yield chunk(index, '', [], choice.finishReason)
  }
  if (includeUsage) yield { ...head, choices: [], usage: usageOf(all, n) }
}

/** The whole answer. @throws AparError for a stream that fails. */
export async function completion(
  streams: Streams,
  { n, logprobs, stop }: Pick<CompletionOptions, 'n' | 'logprobs' | 'stop'>,
): Promise<Completion> {
  const all = streams.accepted.map((accepted) => {
    return { choice: new Choice(accepted, stop), text: '', rows: [] as PlacedLogprob[] }
  })
  for await (const [index, event] of streams.events) {
    const one = all[index]
    if (!one) continue
    const growth = one.choice.push(event)
    one.text += growth.text
    one.rows.push(...growth.logprobs)
  }
  return {
    ...headOf(streams),
    choices: all.map(({ choice, text, rows }, index) => ({
      index,
      text,
      logprobs: logprobs ? completionLogprobs(rows) : null,
      finish_reason: choice.finishReason,
      ...choice.apar,
    })),
    usage: usageOf(
      all.map(({ choice }) => choice),
      n,
    ),
  }
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

function usageOf(choices: readonly Choice[], n: number) {
  return openAiUsage(
    choices.map(({ usage }) => usage),
    n,
  )
}

function completionLogprobs(rows: readonly PlacedLogprob[]): CompletionLogprobs {
  return {
    tokens: rows.map(({ token }) => token),
    token_logprobs: rows.map(({ logprob }) => logprob),
    top_logprobs: rows.map(({ top }) =>
      Object.fromEntries(top.map(({ token, logprob }) => [token, logprob])),
    ),
    text_offset: rows.map(({ offset }) => offset),
  }
}
