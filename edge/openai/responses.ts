import type { AparError } from '../../shared/errors.ts'
import type { AcceptedEvent } from '../../shared/protocol/events.ts'
import type { GenerateRequest } from '../../shared/protocol/request.ts'
import { outputFormatOf } from '../../shared/requests/answer-format.ts'
import type { ResponseItem } from '../../shared/requests/response-items.ts'
import { responseToolsOf } from '../../shared/requests/tools.ts'
import type { ResponsesRequest } from '../../shared/responses.ts'
import { responsesHistory } from '../history/responses.ts'
import { aparUsage } from '../streams/http/apar-usage.ts'
import { samplingOf, templateOptionsOf, toGenerateRequest } from '../streams/http/generate-request.ts'
import type { SingleAnswer } from '../streams/http/single-answer.ts'
import { thinkingOfEffort } from '../streams/http/thinking.ts'
import type { AnswerSoFar, GrowingAnswer } from './answer-so-far.ts'
import { ItemEvents, outputOf } from './response-output.ts'

export type Status = 'queued' | 'in_progress' | 'completed' | 'incomplete' | 'failed' | 'cancelled'

/** As it is returned; further members repeat the request. */
export interface ResponseBody {
  readonly id: string
  readonly status: Status
  readonly store: boolean
  readonly reasoning: { readonly effort: string | null; readonly summary: string | null }
  readonly output: readonly object[]
  readonly [member: string]: unknown
}

/** Stores a response that has ended. false: it is not stored, so its `store` has to say so. */
export type Keep = (response: ResponseBody) => Promise<boolean>

/** `items`: the conversation, the input of the request last. */
export function responsesRequest(body: ResponsesRequest, items: readonly ResponseItem[]): GenerateRequest {
  const instructions = body.instructions ? [{ role: 'system', content: body.instructions }] : []
  const messages = [...instructions, ...responsesHistory(items)]
  const {
    model,
    max_output_tokens: max_tokens,
    temperature,
    top_p,
    frequency_penalty,
    presence_penalty,
  } = body
  const fields = {
    model,
    messages,
    max_tokens,
    temperature,
    top_p,
    frequency_penalty,
    presence_penalty,
    ...samplingOf(body),
    ...templateOptionsOf(body, thinkingOfEffort(body.reasoning?.effort)),
    output_format: outputFormatOf(body)?.format,
    ...responseToolsOf(body),
  }
  return toGenerateRequest(fields, body.apar)
}

/** The input of a request as items. */
export function inputItems({ input }: Pick<ResponsesRequest, 'input'>): readonly ResponseItem[] {
  return typeof input === 'string' ? [{ role: 'user', content: input }] : input
}

/** `begun`: the response before its answer. @throws AparError for a stream that fails. */
export async function wholeResponse(
  begun: ResponseBody,
  answer: SingleAnswer,
  keep?: Keep,
): Promise<ResponseBody> {
  await answer.whole()
  return await keptResponse(endedResponse(begun, answer), keep)
}

/** The answer as OpenAI's named events: a message with one text part, and calls of functions. */
export class ResponseEvents {
  readonly #first: ResponseBody
  readonly #answer: GrowingAnswer
  #sequence = 0

  /** `first`: the response before its answer. */
  constructor(first: ResponseBody, answer: GrowingAnswer) {
    this.#first = first
    this.#answer = answer
  }

  /**
   * `end`: the response behind its answer. An answer has the same events each time it is read.
   * @throws AparError for a stream that fails; the caller then sends `failed` as the last event.
   */
  async *all(end: () => ResponseBody | Promise<ResponseBody>): AsyncGenerator<ResponseEvent, void> {
    const answer = this.#answer
    const first = this.#first
    yield this.#event('response.created', { response: first })
    if (first.status === 'queued') yield this.#event('response.queued', { response: first })
    await answer.begun?.()
    yield this.#event('response.in_progress', { response: { ...first, status: 'in_progress' } })
    const items = new ItemEvents(answer, hasSummary(first))
    for await (const part of answer.parts()) yield* this.#events(items.of(part))
    // Stored before its last event, after which the client may name it.
    const response = await end()
    const { status } = response
    if (status !== 'failed') yield* this.#events(items.end(status === 'completed' ? status : 'incomplete'))
    yield this.#event(`response.${status}`, { response })
  }

  /** The last event of a failed answer. It has the text that was generated until then. */
  failed(error: AparError): ResponseEvent {
    const response = { ...failedResponse(this.#first, this.#answer, error), store: false }
    return this.#event('response.failed', { response })
  }

  *#events(events: Iterable<[type: string, fields: object]>): Generator<ResponseEvent, void> {
    for (const [type, fields] of events) yield this.#event(type, fields)
  }

  #event(type: string, fields: object): ResponseEvent {
    return { type, sequence_number: this.#sequence++, ...fields }
  }
}

export interface ResponseEvent {
  readonly type: string
  /** Counts from 0. */
  readonly sequence_number: number
}

/** A response before its answer. `store`: it will be stored. */
export function begunResponse(
  body: ResponsesRequest,
  { stream, created, model }: Pick<AcceptedEvent, 'stream' | 'created' | 'model'>,
  store: boolean,
): ResponseBody {
  return {
    id: `resp_${stream}`,
    object: 'response',
    created_at: created,
    status: body.background ? 'queued' : 'in_progress',
    background: body.background ?? false,
    error: null,
    incomplete_details: null,
    instructions: body.instructions ?? null,
    max_output_tokens: body.max_output_tokens ?? null,
    metadata: body.metadata ?? {},
    model,
    output: [],
    previous_response_id: body.previous_response_id ?? null,
    reasoning: { effort: body.reasoning?.effort ?? null, summary: summaryOf(body) ?? null },
    store,
    temperature: body.temperature ?? null,
    text: { format: body.text?.format ?? { type: 'text' } },
    ...toolsOf(body),
    top_p: body.top_p ?? null,
    truncation: 'disabled',
    usage: null,
  }
}

function summaryOf({ reasoning }: ResponsesRequest): string | undefined {
  return reasoning?.summary ?? reasoning?.generate_summary
}

function hasSummary({ reasoning }: Pick<ResponseBody, 'reasoning'>): boolean {
  return reasoning.summary !== null
}

/** Behind the end of its answer. @throws AparError when the stream was cut before its end. */
export function endedResponse(first: ResponseBody, answer: SingleAnswer): ResponseBody {
  const status = answer.cut ? 'incomplete' : 'completed'
  return {
    ...first,
    status,
    incomplete_details: status === 'incomplete' ? { reason: 'max_output_tokens' } : null,
    output: outputOf(answer, status, hasSummary(first)),
    usage: usageOf(answer),
    ...answer.apar,
  }
}

export function failedResponse(
  first: ResponseBody,
  answer: AnswerSoFar,
  { code, message }: AparError,
): ResponseBody {
  return {
    ...first,
    status: 'failed',
    output: outputOf(answer, 'incomplete', hasSummary(first)),
    error: { code, message },
  }
}

/** An answer that has not begun has no output. */
export function cancelledResponse(first: ResponseBody, answer: AnswerSoFar): ResponseBody {
  const isEmpty = answer.reasoning === '' && answer.text === '' && answer.calls.length === 0
  return {
    ...first,
    status: 'cancelled',
    output: isEmpty ? [] : outputOf(answer, 'incomplete', hasSummary(first)),
  }
}

/** The response, stored if it can be. */
export async function keptResponse(response: ResponseBody, keep?: Keep): Promise<ResponseBody> {
  return keep === undefined || (await keep(response)) ? response : { ...response, store: false }
}

/** As the request has them; without tools none is called. */
function toolsOf({ tools = [], tool_choice = 'auto', parallel_tool_calls = true }: ResponsesRequest): object {
  if (tools.length === 0) return { tools, tool_choice: 'none', parallel_tool_calls: false }
  const functions = tools.map((tool) => {
    if (tool.type !== 'function') return tool
    const { type, name, description = null, parameters = null, strict = false } = tool
    return { type, name, description, parameters, strict }
  })
  return { tools: functions, tool_choice, parallel_tool_calls }
}

function usageOf({ usage }: SingleAnswer): object {
  return {
    input_tokens: usage.prompt_tokens,
    input_tokens_details: { cached_tokens: usage.cached_prompt_tokens, cache_write_tokens: 0 },
    output_tokens: usage.completion_tokens,
    output_tokens_details: { reasoning_tokens: usage.reasoning_tokens ?? 0 },
    total_tokens: usage.total_tokens,
    ...aparUsage([usage]),
  }
}
