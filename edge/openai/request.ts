import type { ChatCompletionRequest, CompletionRequest } from '../../shared/openai.ts'
import type { GenerateRequest } from '../../shared/protocol/request.ts'
import { outputFormatOf } from '../../shared/requests/answer-format.ts'
import { chatToolsOf } from '../../shared/requests/tools.ts'
import { chatHistory } from '../history/chat.ts'
import {
  samplingOf,
  stopsInDocument,
  templateOptionsOf,
  toGenerateRequest,
} from '../streams/http/generate-request.ts'
import { type Thinking, thinkingOfEffort } from '../streams/http/thinking.ts'

/** OpenAI's request as requests of apar, one per choice. */
export function chatRequests(body: ChatCompletionRequest): GenerateRequest[] {
  const { branch_deltas, resumable: _, ...apar } = body.apar ?? {}
  const request = toRequest(body, apar, {
    messages: chatHistory(body.messages),
    ...templateOptionsOf(body, thinkingOf(body)),
    separate_reasoning: body.separate_reasoning,
    ...chatToolsOf(body),
    max_tokens: body.max_completion_tokens ?? body.max_tokens,
    logprobs: body.logprobs ? (body.top_logprobs ?? 0) : undefined,
  })
  return choices(branch_deltas ? request : stopsInDocument(request), body.n ?? 1)
}

/** How much to think, in the spelling that the body has; OpenAI's comes first. */
function thinkingOf(body: ChatCompletionRequest): Thinking {
  const { reasoning = {}, thinking, enable_thinking, thinking_budget } = body
  const switches = { enabled: true, disabled: false, adaptive: undefined, auto: undefined }
  const enabled = reasoning.enabled ?? enable_thinking ?? (thinking && switches[thinking.type])
  return {
    enabled,
    budgetTokens: reasoning.max_tokens ?? thinking_budget,
    ...thinkingOfEffort(body.reasoning_effort ?? reasoning.effort),
  }
}

/** Whether each chunk of a stream has the usage until then. */
export function countsTokens({ stream, stream_options }: ChatCompletionRequest | CompletionRequest): boolean {
  return (stream && stream_options?.continuous_usage_stats) ?? false
}

/** A call's stop strings as a list. */
export function stopsOf({ stop }: Pick<CompletionRequest, 'stop'>): readonly string[] {
  return typeof stop === 'string' ? [stop] : (stop ?? [])
}

/** How many choices are generated for each prompt. */
export function candidatesOf({ n = 1, best_of = n }: Pick<CompletionRequest, 'n' | 'best_of'>): number {
  return best_of
}

/** So many requests per prompt, in the order of the prompts. */
export function completionRequests(body: CompletionRequest): GenerateRequest[] {
  const { resumable: _, ...apar } = body.apar ?? {}
  const candidates = candidatesOf(body)
  return promptsOf(body).flatMap((prompt) => {
    const isText = typeof prompt === 'string'
    const request = toRequest(body, apar, {
      messages: isText ? [{ role: 'user', content: prompt }] : [],
      prompt_token_ids: isText ? undefined : prompt,
      // The engine's least: it comes with the prompt.
      max_tokens: body.max_tokens === 0 ? 1 : body.max_tokens,
      // Candidates are compared by them.
      logprobs: body.logprobs ?? (candidates > (body.n ?? 1) ? 0 : undefined),
      prompt_logprobs: needsPrompt(body) ? (body.logprobs ?? 0) : undefined,
      raw_prompt: true,
    })
    return choices(stopsInDocument(request), candidates)
  })
}

/** Texts, or lists of token ids. */
export function promptsOf({ prompt }: CompletionRequest): (string | number[])[] {
  if (typeof prompt === 'string') return [prompt]
  const lists = prompt.filter((each) => typeof each !== 'number')
  return lists.length > 0 ? lists : [prompt.filter((each) => typeof each === 'number')]
}

/** Whether the answer has the tokens of the prompt: what a text of its own does not say. */
function needsPrompt(body: CompletionRequest): boolean {
  return (
    body.echo === true &&
    (body.logprobs !== undefined || promptsOf(body).some((one) => typeof one !== 'string'))
  )
}

function toRequest(
  body: ChatCompletionRequest | CompletionRequest,
  apar: Omit<NonNullable<CompletionRequest['apar']>, 'resumable'>,
  own: object,
): GenerateRequest {
  const fields = {
    model: body.model,
    temperature: body.temperature,
    top_p: body.top_p,
    frequency_penalty: body.frequency_penalty,
    presence_penalty: body.presence_penalty,
    logit_bias: body.logit_bias,
    ...samplingOf(body),
    output_format: outputFormatOf(body)?.format,
    stop: stopsOf(body),
    token_counts: countsTokens(body) || undefined,
    ...own,
  }
  return toGenerateRequest(fields, apar)
}

/** With a seed, the first choice has the same text as the same request without `n`. */
function choices(request: GenerateRequest, n: number): GenerateRequest[] {
  return Array.from({ length: n }, (_, index) => {
    return request.seed === undefined
      ? { ...request }
      : { ...request, seed: (request.seed + index) % 2 ** 32 }
  })
}
