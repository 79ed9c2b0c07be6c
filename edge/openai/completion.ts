import type { Completion, CompletionLogprobs, FinishReason } from '../../shared/openai.ts'
import type { TokenLogprob } from '../../shared/protocol/events.ts'
import { Choice } from '../streams/http/choice.ts'
import type { Streams } from '../streams/http/streams.ts'
import { openAiUsage } from './usage.ts'

export interface CompletionOptions {
  /** Choices per prompt. */
  readonly n: number
  readonly includeUsage: boolean
  readonly logprobs: boolean
  readonly stop: readonly string[]
}

/** A choice and its text so far. */
interface PartialChoice {
  readonly choice: Choice
  text: string
  rows: TokenLogprob[]
}

/** The streams of a call as chunks of OpenAI's legacy completions. @throws AparError for a stream that fails. */
export async function* completionChunks(
  streams: Streams,
  { n, includeUsage, logprobs, stop }: CompletionOptions,
): AsyncGenerator<Completion, void> {
  const head = headOf(streams)
  const all = partialChoices(streams, stop)
  const chunk = (index: number, text: string, rows: readonly TokenLogprob[], finish: FinishReason | null) => {
    const offset = (all[index]?.text.length ?? 0) - text.length
    const choice = { index, text, logprobs: logprobs ? completionLogprobs(rows, offset) : null }
    return { ...head, choices: [{ ...choice, finish_reason: finish }], ...(includeUsage && { usage: null }) }
  }
  for await (const [index, event] of streams.events) {
    const one = all[index]
    if (!one) continue
    const growth = one.choice.push(event)
    one.text += growth.text
    if (growth.text !== '') yield chunk(index, growth.text, growth.logprobs, null)
    if (event.type === 'done') yield chunk(index, '', [], one.choice.finishReason)
  }
  if (includeUsage) yield { ...head, choices: [], usage: usageOf(all, n) }
}

/** The whole answer. @throws AparError for a stream that fails. */
export async function completion(
  streams: Streams,
  { n, logprobs, stop }: Pick<CompletionOptions, 'n' | 'logprobs' | 'stop'>,
): Promise<Completion> {
  const all = partialChoices(streams, stop)
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
      logprobs: logprobs ? completionLogprobs(rows, 0) : null,
      finish_reason: choice.finishReason,
    })),
    usage: usageOf(all, n),
  }
}

function partialChoices(streams: Streams, stop: readonly string[]): PartialChoice[] {
  return streams.accepted.map((accepted) => ({ choice: new Choice(accepted, stop), text: '', rows: [] }))
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

function usageOf(all: readonly PartialChoice[], n: number) {
  return openAiUsage(
    all.map(({ choice }) => choice.usage),
    n,
  )
}

/** `offset`: where the first row's text begins in the choice's text. */
function completionLogprobs(rows: readonly TokenLogprob[], offset: number): CompletionLogprobs {
  let at = offset
  const text_offset = rows.map(({ token }) => {
    const begin = at
    at += token.length
    return begin
  })
  return {
    tokens: rows.map(({ token }) => token),
    token_logprobs: rows.map(({ logprob }) => logprob),
    top_logprobs: rows.map(({ top }) =>
      Object.fromEntries(top.map(({ token, logprob }) => [token, logprob])),
    ),
    text_offset,
  }
}
