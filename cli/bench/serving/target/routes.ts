import { z } from 'zod'
import type { ModeOptions } from '../modes.ts'
import { type ReceivedAnswer, RequestFailed } from './answer.ts'
import type { BenchRequest } from './target.ts'

/** One of the HTTP APIs: how a request is written, and how its events are read. */
export interface Route {
  readonly path: string
  body(request: BenchRequest): object
  /** One event's data, which arrived at `at`. @throws RequestFailed */
  read(data: unknown, answer: ReceivedAnswer, at: number): void
}

const text = z.string().nullish()
const count = z.number().nullish()

/** What apar adds for requests with a trace: all of it, or in chunks the next steps. */
const Steps = z.array(z.object({ us: z.number(), rows: z.number() }))
const AparPart = z.object({ steps: Steps.nullish(), trace: z.object({ steps: Steps }).nullish() }).nullish()

const OpenAiUsage = z.object({
  prompt_tokens: z.number(),
  completion_tokens: count,
  prompt_tokens_details: z.object({ cached_tokens: count }).nullish(),
})
const ChatChunk = z.object({
  choices: z
    .array(z.object({ delta: z.object({ content: text }).nullish(), text, finish_reason: text }))
    .nullish(),
  usage: OpenAiUsage.nullish(),
  apar: AparPart,
})

/** Chunks of chat and of text completions differ in the place of the text only. */
function readChunk(data: unknown, answer: ReceivedAnswer, at: number): void {
  const { choices, usage, apar } = ChatChunk.parse(data)
  readSteps(apar, answer)
  for (const { delta, text: piece, finish_reason } of choices ?? []) {
    answer.addText(delta?.content ?? piece ?? '', at)
    if (!finish_reason) continue
    answer.finish = finish_reason
    answer.whole = true
  }
  if (!usage) return
  answer.usage = {
    promptTokens: usage.prompt_tokens,
    cachedTokens: usage.prompt_tokens_details?.cached_tokens ?? 0,
    outputTokens: usage.completion_tokens ?? 0,
  }
}

function readSteps(apar: z.infer<typeof AparPart>, answer: ReceivedAnswer): void {
  const steps = apar?.steps ?? apar?.trace?.steps
  if (steps) answer.addSteps(steps)
}

const chat: Route = {
  path: '/v1/chat/completions',
  body: (request) => ({
    ...{ model: request.model, messages: request.messages, max_tokens: request.maxTokens },
    ...{ stream: true, stream_options: { include_usage: true } },
    ...common(request),
  }),
  read: readChunk,
}

const completions: Route = {
  path: '/v1/completions',
  body: (request) => ({
    ...{ model: request.model, max_tokens: request.maxTokens },
    // No template: the contents alone.
    prompt: request.messages.map(({ content }) => content).join('\n\n'),
    ...{ stream: true, stream_options: { include_usage: true } },
    ...common(request),
  }),
  read: readChunk,
}

const ResponseEvent = z.object({
  type: z.string(),
  delta: z.unknown().optional(),
  response: z
    .object({
      status: text,
      error: z.object({ code: text, message: text }).nullish(),
      apar: AparPart,
      usage: z
        .object({
          ...{ input_tokens: z.number(), output_tokens: z.number() },
          input_tokens_details: z.object({ cached_tokens: count }).nullish(),
        })
        .nullish(),
    })
    .nullish(),
})

const responses: Route = {
  path: '/v1/responses',
  body: (request) => ({
    ...{ model: request.model, input: request.messages, max_output_tokens: request.maxTokens, stream: true },
    ...common(request),
  }),
  read: (data, answer, at) => {
    const { type, delta, response } = ResponseEvent.parse(data)
    if (type === 'response.output_text.delta') answer.addText(String(delta), at)
    if (type === 'response.failed')
      throw new RequestFailed(response?.error?.code ?? 'error', response?.error?.message ?? '')
    if (type !== 'response.completed' && type !== 'response.incomplete') return
    answer.whole = true
    answer.finish = type === 'response.completed' ? 'stop' : 'length'
    readSteps(response?.apar, answer)
    const { usage } = response ?? {}
    if (usage)
      answer.usage = {
        promptTokens: usage.input_tokens,
        cachedTokens: usage.input_tokens_details?.cached_tokens ?? 0,
        outputTokens: usage.output_tokens,
      }
  },
}

const AnthropicUsage = z.object({
  input_tokens: count,
  output_tokens: count,
  cache_read_input_tokens: count,
  cache_creation_input_tokens: count,
})
const MessageEvent = z.object({
  type: z.string(),
  message: z.object({ usage: AnthropicUsage.nullish() }).nullish(),
  delta: z.object({ text, stop_reason: text }).nullish(),
  usage: AnthropicUsage.nullish(),
  apar: AparPart,
})

const messages: Route = {
  path: '/v1/messages',
  body: (request) => {
    const system = request.messages.filter(({ role }) => role === 'system').map(({ content }) => content)
    return {
      ...{ model: request.model, max_tokens: request.maxTokens, stream: true },
      ...(system.length > 0 && { system: system.join('\n\n') }),
      messages: request.messages.filter(({ role }) => role !== 'system'),
      ...common(request),
    }
  },
  read: (data, answer, at) => {
    const { type, message, delta, usage = message?.usage, apar } = MessageEvent.parse(data)
    readSteps(apar, answer)
    if (type === 'content_block_delta') answer.addText(delta?.text ?? '', at)
    if (delta?.stop_reason) answer.finish = delta.stop_reason
    if (type === 'message_stop') answer.whole = true
    if (!usage) return
    const cachedTokens = usage.cache_read_input_tokens ?? 0
    // Anthropic's input_tokens are those that were neither in the cache nor put there. A server may leave them out at the end.
    const own = (usage.input_tokens ?? 0) + cachedTokens + (usage.cache_creation_input_tokens ?? 0)
    answer.usage = {
      promptTokens: own || (answer.usage?.promptTokens ?? 0),
      cachedTokens,
      outputTokens: usage.output_tokens ?? 0,
    }
  },
}

export const ROUTES = { chat, completions, responses, messages } as const satisfies Record<string, Route>
export type RouteName = keyof typeof ROUTES

/** A server that does not know the fields for fixed lengths, or of apar, may refuse them: they are sent only if needed. */
function common({ temperature, seed, maxTokens, fixedLength, mode, trace }: BenchRequest): object {
  return {
    temperature,
    ...(temperature > 0 && { seed }),
    ...(fixedLength && { ignore_eos: true, min_tokens: maxTokens }),
    ...((mode || trace) && { apar: { ...(mode && aparOptions(mode)), ...(trace && { trace }) } }),
  }
}

function aparOptions({ parallel, speculation }: ModeOptions): object {
  return { enabled: parallel, speculation }
}
