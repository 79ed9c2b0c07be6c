import { z } from 'zod'
import { BranchOptions, FurtherFields, GenerateRequest } from './protocol/request.ts'
import type { SpeculationUsage } from './protocol/speculation.ts'
import type { Trace } from './protocol/trace.ts'

const { model, max_tokens, temperature, top_p, seed } = GenerateRequest.shape
const { frequency_penalty, presence_penalty, logit_bias } = GenerateRequest.shape

/** Most choices of one call; each is a separate stream, and all share the prompt's prefix cache. */
const MAX_CHOICES = 16

const TextPart = z.strictObject({
  type: z.literal('text', 'only text parts are supported'),
  text: z.string(),
})

/** `developer` is what newer OpenAI models call the system role. */
const Message = z.strictObject({
  role: z.enum(['system', 'developer', 'user', 'assistant']),
  content: z.union([z.string(), z.array(TextPart).min(1)], 'must be a string or a list of text parts'),
  /** OpenAI's answers have this field, so clients send it back with the conversation. */
  refusal: z.null().optional(),
})

const Stop = z.union([z.string().min(1).max(256), z.array(z.string().min(1).max(256)).max(16)])

/** An OpenAI field that would change the answer if it were ignored: only its neutral values are accepted. */
export const unsupported = (what: string, ...neutral: (number | boolean | string)[]) =>
  z.literal([null, ...neutral], `${what} not supported`).optional()

/** An OpenAI field that has no effect on the answer. */
export const ignored = z.unknown().optional()

const IGNORED = {
  user: ignored,
  metadata: ignored,
  store: ignored,
  safety_identifier: ignored,
  prompt_cache_key: ignored,
  service_tier: ignored,
}

/** Branching, and the other options that OpenAI lacks. */
export const Apar = BranchOptions.extend(FurtherFields.shape)
export type Apar = z.infer<typeof Apar>

/**
 * SSE chunks carry ids, and a disconnected client can resume with `last-event-id`: a disconnect does not cancel
 * the stream.
 */
const resumable = z.boolean().optional()

/** Only a streamed answer can be resumed. */
const RESUMABLE_STREAMS = { path: ['apar', 'resumable'], error: 'needs stream: true' }
interface MayResume {
  stream?: boolean | null | undefined
  apar?: { resumable?: boolean | undefined } | null | undefined
}
function streamsIfResumable({ stream, apar }: MayResume): boolean {
  return stream === true || apar?.resumable !== true
}

const STREAM_OPTIONS = { path: ['stream_options'], error: 'needs stream: true' }
function streamsIfItHasOptions(body: { stream?: boolean | null | undefined; stream_options?: unknown }) {
  return body.stream === true || (body.stream_options ?? null) === null
}

/** Fields of both chat and text completions. As in OpenAI's API, null means absent. */
const Common = {
  model,
  stream: z.boolean().nullish(),
  stream_options: z
    .strictObject({
      include_usage: z.boolean().optional(),
      include_obfuscation: z.literal(false, 'obfuscation is not supported').optional(),
    })
    .nullish(),
  max_tokens: max_tokens.nullable(),
  temperature: temperature.nullable(),
  top_p: top_p.nullable(),
  frequency_penalty: frequency_penalty.nullable(),
  presence_penalty: presence_penalty.nullable(),
  logit_bias: logit_bias.nullable(),
  stop: Stop.nullish(),
  seed: seed.nullable(),
  n: z.int().min(1).max(MAX_CHOICES).nullish(),
  ...IGNORED,
}

/**
 * `POST /v1/chat/completions`: the OpenAI fields that apar supports, and branching options under `apar`.
 * Any other field is refused.
 */
export const ChatCompletionRequest = z
  .strictObject({
    ...Common,
    messages: z.array(Message).min(1).max(1024),
    /** The newer name of `max_tokens`; takes precedence. */
    max_completion_tokens: max_tokens.nullable(),
    logprobs: z.boolean().nullish(),
    top_logprobs: z.int().min(0).max(20).nullish(),
    apar: Apar.extend({
      /** Sends text of all branches as it is generated, each piece with its branch, instead of in document order. */
      branch_deltas: z.boolean().optional(),
      resumable,
    }).nullish(),

    tools: unsupported('tools are'),
    tool_choice: unsupported('tools are', 'none'),
    parallel_tool_calls: unsupported('tools are'),
    functions: unsupported('functions are'),
    function_call: unsupported('functions are', 'none'),
    response_format: z
      .strictObject({ type: z.literal('text', 'only the text response format is supported') })
      .nullish(),
    reasoning_effort: unsupported('reasoning_effort is', 'none'),
    verbosity: unsupported('verbosity is'),
    modalities: z.tuple([z.literal('text')], 'only text is supported').nullish(),
    audio: unsupported('audio is'),
    prediction: unsupported('prediction is'),
    web_search_options: unsupported('web search is'),
  })
  .refine(({ logprobs, top_logprobs }) => logprobs === true || typeof top_logprobs !== 'number', {
    path: ['top_logprobs'],
    error: 'needs logprobs: true',
  })
  .refine(streamsIfResumable, RESUMABLE_STREAMS)
  .refine(streamsIfItHasOptions, STREAM_OPTIONS)
  .refine(({ stream, apar }) => stream === true || apar?.branch_deltas !== true, {
    path: ['apar', 'branch_deltas'],
    error: 'needs stream: true',
  })
export type ChatCompletionRequest = z.infer<typeof ChatCompletionRequest>

const Prompt = z.string().min(1).max(1_000_000)

/** `POST /v1/completions`: the model continues the prompt, without a chat template. */
export const CompletionRequest = z
  .strictObject({
    ...Common,
    prompt: z.union([Prompt, z.array(Prompt).min(1).max(MAX_CHOICES)], 'must be a text or a list of texts'),
    /** How many of the most likely tokens to report for each position. */
    logprobs: z.int().min(0).max(5).nullish(),
    apar: Apar.extend({ resumable }).nullish(),

    best_of: unsupported('best_of is', 1),
    echo: unsupported('echo is', false),
    suffix: unsupported('suffix is', ''),
  })
  .refine(streamsIfResumable, RESUMABLE_STREAMS)
  .refine(streamsIfItHasOptions, STREAM_OPTIONS)
export type CompletionRequest = z.infer<typeof CompletionRequest>

export interface CompletionUsage {
  /** Each prompt is counted once, independent of `n`. */
  readonly prompt_tokens: number
  readonly completion_tokens: number
  readonly total_tokens: number
  readonly prompt_tokens_details: { readonly cached_tokens: number }
  /**
   * Of all choices; only when tokens were drafted. OpenAI's `accepted_prediction_tokens` are those of a `prediction` that
   * the client sent.
   */
  readonly apar?: { readonly speculation: SpeculationUsage }
}

export type FinishReason = 'stop' | 'length'

interface TokenText {
  readonly token: string
  readonly bytes: readonly number[] | null
  readonly logprob: number
}

export interface ChatLogprobs {
  readonly content: readonly (TokenText & { readonly top_logprobs: readonly TokenText[] })[]
  readonly refusal: null
}

export interface CompletionLogprobs {
  readonly tokens: readonly string[]
  readonly token_logprobs: readonly number[]
  readonly top_logprobs: readonly Readonly<Record<string, number>>[]
  /** Start of each token's text in the choice's text, in UTF-16 code units. */
  readonly text_offset: readonly number[]
}

interface Head<O extends string> {
  readonly id: string
  readonly object: O
  readonly created: number
  readonly model: string
  readonly system_fingerprint: string | null
}

export interface ChatCompletion extends Head<'chat.completion'> {
  readonly choices: readonly {
    readonly index: number
    readonly message: { readonly role: 'assistant'; readonly content: string; readonly refusal: null }
    readonly logprobs: ChatLogprobs | null
    readonly finish_reason: FinishReason
    readonly apar?: { readonly trace: Trace }
  }[]
  readonly usage: CompletionUsage
}

/**
 * Event and branch of a chunk, for streams with `apar.branch_deltas`; the fields are those of the events in
 * docs/protocol.md.
 */
export type BranchAddress =
  | { readonly event: 'accepted'; readonly joints: string }
  | { readonly event: 'fork'; readonly branch: number; readonly parent: number; readonly at: number }
  | { readonly event: 'delta'; readonly branch: number }
  | { readonly event: 'branch_end'; readonly branch: number; readonly reason: string }

/** With `apar.trace`: the next steps of a choice's trace, in a chunk without text. */
export type TraceChunk = { readonly event: 'trace' } & Trace

export interface ChatCompletionChunk extends Head<'chat.completion.chunk'> {
  readonly choices: readonly {
    readonly index: number
    readonly delta: { readonly role?: 'assistant'; readonly content?: string }
    readonly logprobs: ChatLogprobs | null
    readonly finish_reason: FinishReason | null
  }[]
  /** Present with `stream_options.include_usage`: null in all chunks but the last. */
  readonly usage?: CompletionUsage | null
  readonly apar?: BranchAddress | TraceChunk
}

/**
 * Also the chunks of a stream, which have the same shape in OpenAI's API: `finish_reason` is null except in each
 * choice's last chunk.
 */
export interface Completion extends Head<'text_completion'> {
  readonly apar?: TraceChunk
  readonly choices: readonly {
    readonly index: number
    readonly text: string
    readonly logprobs: CompletionLogprobs | null
    readonly finish_reason: FinishReason | null
    readonly apar?: { readonly trace: Trace }
  }[]
  readonly usage?: CompletionUsage | null
}
