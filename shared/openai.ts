import { z } from 'zod'
import { BranchOptions, GenerateRequest } from './protocol/request.ts'

const { max_tokens, temperature, top_p, top_k, min_p, repetition_penalty, seed } = GenerateRequest.shape

const TextPart = z.strictObject({
  type: z.literal('text', 'only text parts are supported'),
  text: z.string(),
})

/** `developer` is what newer OpenAI models call the system role. */
const Message = z.strictObject({
  role: z.enum(['system', 'developer', 'user', 'assistant']),
  content: z.union([z.string(), z.array(TextPart).min(1)], 'must be a string or a list of text parts'),
  /** Part of every answer, so part of every conversation that is sent back. */
  refusal: z.null().optional(),
})

const Stop = z.union([z.string().min(1).max(256), z.array(z.string().min(1).max(256)).max(16)])

/** A field of OpenAI's that would change the answer if it were ignored; only its neutral values pass. */
const unsupported = (what: string, ...neutral: (number | boolean)[]) =>
  z.literal([null, ...neutral], `${what} not supported`).optional()

/** A field of OpenAI's that changes nothing about the answer. */
const ignored = z.unknown().optional()

/**
 * `POST /v1/chat/completions`: what OpenAI clients send, as far as apar can do it, and branching under `apar`.
 * Every other field is refused. As in OpenAI's API, null means absent.
 */
export const ChatCompletionRequest = z.strictObject({
  model: GenerateRequest.shape.model,
  messages: z.array(Message).min(1).max(1024),
  stream: z.boolean().nullish(),
  stream_options: z.strictObject({ include_usage: z.boolean().optional() }).nullish(),
  max_tokens: max_tokens.nullable(),
  /** The newer name of `max_tokens`; wins over it. */
  max_completion_tokens: max_tokens.nullable(),
  temperature: temperature.nullable(),
  top_p: top_p.nullable(),
  stop: Stop.nullish(),
  seed: seed.nullable(),
  n: z.literal(1, 'only one choice per request is supported').nullish(),
  apar: BranchOptions.extend({ top_k, min_p, repetition_penalty }).optional(),

  tools: unsupported('tools are'),
  tool_choice: unsupported('tools are'),
  functions: unsupported('functions are'),
  response_format: z
    .strictObject({ type: z.literal('text', 'only the text response format is supported') })
    .nullish(),
  logprobs: unsupported('logprobs are', false),
  top_logprobs: unsupported('logprobs are'),
  logit_bias: unsupported('logit_bias is'),
  frequency_penalty: unsupported('frequency_penalty is (see apar.repetition_penalty);', 0),
  presence_penalty: unsupported('presence_penalty is (see apar.repetition_penalty);', 0),

  user: ignored,
  metadata: ignored,
  store: ignored,
  safety_identifier: ignored,
  prompt_cache_key: ignored,
  service_tier: ignored,
})
export type ChatCompletionRequest = z.infer<typeof ChatCompletionRequest>

export interface ChatCompletionUsage {
  readonly prompt_tokens: number
  readonly completion_tokens: number
  readonly total_tokens: number
  readonly prompt_tokens_details: { readonly cached_tokens: number }
}

export type ChatFinishReason = 'stop' | 'length'

export interface ChatCompletion {
  readonly id: string
  readonly object: 'chat.completion'
  readonly created: number
  readonly model: string
  readonly choices: readonly {
    readonly index: 0
    readonly message: { readonly role: 'assistant'; readonly content: string; readonly refusal: null }
    readonly logprobs: null
    readonly finish_reason: ChatFinishReason
  }[]
  readonly usage: ChatCompletionUsage
}

export interface ChatCompletionChunk {
  readonly id: string
  readonly object: 'chat.completion.chunk'
  readonly created: number
  readonly model: string
  readonly choices: readonly {
    readonly index: 0
    readonly delta: { readonly role?: 'assistant'; readonly content?: string }
    readonly logprobs: null
    readonly finish_reason: ChatFinishReason | null
  }[]
  /** Present when `stream_options.include_usage` asked for it: null but in the last chunk. */
  readonly usage?: ChatCompletionUsage | null
}
