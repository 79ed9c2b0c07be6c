import type { AparError } from '../../shared/errors.ts'
import type { GenerateRequest } from '../../shared/protocol/request.ts'
import { outputFormatOf } from '../../shared/requests/answer-format.ts'
import { responseToolsOf } from '../../shared/requests/tools.ts'
import type { ResponsesRequest } from '../../shared/responses.ts'
import { responsesHistory } from '../history/responses.ts'
import { aparUsage } from '../streams/http/apar-usage.ts'
import { samplingOf, templateOptionsOf, toGenerateRequest } from '../streams/http/generate-request.ts'
import type { SingleAnswer } from '../streams/http/single-answer.ts'
import { thinkingOfEffort } from '../streams/http/thinking.ts'
import type { ItemStatus } from './item-event.ts'
import { ItemEvents, outputOf } from './response-output.ts'

type Status = 'in_progress' | 'completed' | 'incomplete' | 'failed'

export function responsesRequest(body: ResponsesRequest): GenerateRequest {
  const items = typeof body.input === 'string' ? [{ role: 'user' as const, content: body.input }] : body.input
  const instructions = body.instructions ? [{ role: 'system', content: body.instructions }] : []
  const messages = [...instructions, ...responsesHistory(items)]
  const { model, max_output_tokens: max_tokens, temperature, top_p } = body
  const fields = {
    model,
    messages,
    max_tokens,
    temperature,
    top_p,
    ...samplingOf(body),
    ...templateOptionsOf(body, thinkingOfEffort(body.reasoning?.effort)),
    output_format: outputFormatOf(body)?.format,
    ...responseToolsOf(body),
  }
  return toGenerateRequest(fields, body.apar)
}

/** The whole answer. @throws AparError for a stream that fails. */
export async function wholeResponse(body: ResponsesRequest, answer: SingleAnswer): Promise<object> {
  await answer.whole()
  const status = endOf(answer)
  return response(body, answer, status, {
    output: outputOf(answer, status, hasSummary(body)),
    usage: usageOf(answer),
    ...answer.apar,
  })
}

/** The answer as OpenAI's named events: a message with one text part, and calls of functions. */
export class ResponseEvents {
  readonly #body: ResponsesRequest
  readonly #answer: SingleAnswer
  #sequence = 0

  constructor(body: ResponsesRequest, answer: SingleAnswer) {
    this.#body = body
    this.#answer = answer
  }

  /** @throws AparError for a stream that fails; the caller then sends `failed` as the last event. */
  async *all(): AsyncGenerator<object, void> {
    const answer = this.#answer
    const begun = this.#response('in_progress')
    yield this.#event('response.created', { response: begun })
    yield this.#event('response.in_progress', { response: begun })
    const items = new ItemEvents(answer, hasSummary(this.#body))
    for await (const part of answer.parts()) yield* this.#events(items.of(part))
    const status = endOf(answer)
    const usage = usageOf(answer)
    yield* this.#events(items.end(status))
    yield this.#event(`response.${status}`, {
      response: this.#response(status, { output: this.#output(status), usage, ...answer.apar }),
    })
  }

  /** The last event of a failed answer. It has the text that was generated until then. */
  failed({ code, message: why }: AparError): { readonly type: string } {
    const output = this.#output('incomplete')
    return this.#event('response.failed', {
      response: this.#response('failed', { output, error: { code, message: why } }),
    })
  }

  #output(status: ItemStatus): object[] {
    return outputOf(this.#answer, status, hasSummary(this.#body))
  }

  *#events(events: Iterable<[type: string, fields: object]>): Generator<object, void> {
    for (const [type, fields] of events) yield this.#event(type, fields)
  }

  #event(type: string, fields: object) {
    return { type, sequence_number: this.#sequence++, ...fields }
  }

  #response(status: Status, more: object = {}): object {
    return response(this.#body, this.#answer, status, more)
  }
}

function response(body: ResponsesRequest, { accepted }: SingleAnswer, status: Status, more: object): object {
  return {
    id: `resp_${accepted.stream}`,
    object: 'response',
    created_at: accepted.created,
    status,
    background: false,
    error: null,
    incomplete_details: status === 'incomplete' ? { reason: 'max_output_tokens' } : null,
    instructions: body.instructions ?? null,
    max_output_tokens: body.max_output_tokens ?? null,
    metadata: body.metadata ?? {},
    model: accepted.model,
    output: [],
    previous_response_id: null,
    reasoning: { effort: body.reasoning?.effort ?? null, summary: summaryOf(body) ?? null },
    store: false,
    temperature: body.temperature ?? null,
    text: { format: body.text?.format ?? { type: 'text' } },
    ...toolsOf(body),
    top_p: body.top_p ?? null,
    truncation: 'disabled',
    usage: null,
    ...more,
  }
}

function summaryOf({ reasoning }: ResponsesRequest): string | undefined {
  return reasoning?.summary ?? reasoning?.generate_summary
}

function hasSummary(body: ResponsesRequest): boolean {
  return summaryOf(body) !== undefined
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

function endOf(answer: SingleAnswer): 'completed' | 'incomplete' {
  return answer.cut ? 'incomplete' : 'completed'
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
