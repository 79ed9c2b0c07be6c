import { z } from 'zod'
import {
  BranchOptions,
  FurtherFields,
  GenerateRequest,
  MAX_MESSAGES,
  MAX_NEW_TOKENS,
  PromptAndEnd,
} from './protocol/request.ts'
import type { SpeculationUsage } from './protocol/speculation.ts'
import type { Trace } from './protocol/trace.ts'
import { FormatFields, ResponseFormat } from './requests/answer-format.ts'
import { ChatMessage } from './requests/chat-messages.ts'
import { ignored, ignoredAs, refused, unsupported } from './requests/fields.ts'
import { ModelName, type Named } from './requests/model-name.ts'
import {
  ABOUT_THE_CALL,
  MaxTokens,
  NEUTRAL_OF_OTHERS,
  OF_ROUTERS,
  SamplingFields,
  TemplateFields,
} from './requests/sampling.ts'
import { ChatFunctionCall, ChatFunctions, ChatToolChoice, ChatTools } from './requests/tools.ts'

const { temperature, top_p } = GenerateRequest.shape
const { frequency_penalty, presence_penalty, logit_bias } = GenerateRequest.shape

/** Most choices of one call; each is a separate stream, and all share the prompt's prefix cache. */
const MAX_CHOICES = 16

const StopString = z.string().min(1).max(256)
const Stop = z.union(
  [StopString, z.array(StopString).max(16)],
  'must be a string of 1 to 256 characters, or up to 16 of them',
)

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

/** Fields of both chat and text completions. null means absent: `parseBody` has left it out. */
const Common = {
  model: ModelName,
  stream: z.boolean().optional(),
  /** They have no effect without `stream`. */
  stream_options: z
    .strictObject({
      include_usage: z.boolean().optional(),
      /** Every chunk has the usage until then. */
      continuous_usage_stats: z.boolean().optional(),
      /** Adds nothing: the lengths of texts are not hidden. */
      include_obfuscation: ignored,
    })
    .optional(),
  max_tokens: MaxTokens.optional(),
  temperature,
  top_p,
  frequency_penalty,
  presence_penalty,
  logit_bias,
  stop: Stop.optional(),
  n: z.int().min(1).max(MAX_CHOICES).optional(),
  response_format: ResponseFormat.optional(),
  ...FormatFields,
  ...SamplingFields,
  ...NEUTRAL_OF_OTHERS,
  ...OF_ROUTERS,
  ...ABOUT_THE_CALL,
}

/**
 * `POST /v1/chat/completions`: the OpenAI fields that apar supports, and branching options under `apar`.
 * Any other field is refused.
 */
export const ChatCompletionRequest = z
  .strictObject({
    ...Common,
    messages: z.array(ChatMessage).min(1).max(MAX_MESSAGES),
    ...TemplateFields,
    /** The newer name of `max_tokens`; takes precedence. */
    max_completion_tokens: MaxTokens.optional(),
    logprobs: z.boolean().optional(),
    top_logprobs: z.int().min(0).max(20).optional(),
    apar: Apar.extend({
      /** Sends text of all branches as it is generated, each piece with its branch, instead of in document order. */
      branch_deltas: z.boolean().optional(),
      resumable,
    }).optional(),

    tools: ChatTools,
    tool_choice: ChatToolChoice,
    parallel_tool_calls: z.boolean().optional(),
    /** The older names of tools. */
    functions: ChatFunctions,
    function_call: ChatFunctionCall,
    /** `none` switches reasoning off; what else templates make of it is theirs. */
    reasoning_effort: z.string().max(32).optional(),
    /** As OpenRouter has it. */
    reasoning: z
      .looseObject({
        effort: z.string().max(32).optional(),
        enabled: z.boolean().optional(),
        max_tokens: z.int().min(1).max(MAX_NEW_TOKENS).optional(),
        exclude: z.boolean().optional(),
      })
      .optional(),
    /** As DeepSeek and GLM have it. */
    thinking: z.looseObject({ type: z.enum(['enabled', 'disabled', 'adaptive', 'auto']) }).optional(),
    /** As Qwen has it. */
    enable_thinking: z.boolean().optional(),
    thinking_budget: z.int().min(0).max(MAX_NEW_TOKENS).optional(),
    /** false: its markers are part of the content, as SGLang has it; or it is left out, as vLLM has it. */
    separate_reasoning: z.boolean().optional(),
    include_reasoning: z.boolean().optional(),
    echo: unsupported('echo is', false),
    verbosity: unsupported('verbosity is', 'medium'),
    modalities: refused(z.tuple([z.literal('text')], 'only text is supported').optional()),
    audio: unsupported('audio is'),
    prediction: ignoredAs(z.unknown()),
    moderation: unsupported('moderation is'),
    web_search_options: unsupported('web search is'),
  })
  .refine(({ logprobs, top_logprobs = 0 }) => logprobs === true || top_logprobs === 0, {
    path: ['top_logprobs'],
    error: 'needs logprobs: true',
  })
  .refine(streamsIfResumable, RESUMABLE_STREAMS)
  .refine(({ stream, apar }) => stream === true || apar?.branch_deltas !== true, {
    path: ['apar', 'branch_deltas'],
    error: 'needs stream: true',
  })
export type ChatCompletionRequest = Named<z.infer<typeof ChatCompletionRequest>>

const Prompt = z.string().min(1).max(1_000_000)
const PromptTokens = PromptAndEnd.shape.prompt_token_ids.unwrap()

/** `POST /v1/completions`: the model continues the prompt, without a chat template. */
export const CompletionRequest = z
  .strictObject({
    ...Common,
    add_special_tokens: unsupported('leaving out the first special token is', true),
    prompt: z.union(
      [
        Prompt,
        z.array(Prompt).min(1).max(MAX_CHOICES),
        PromptTokens,
        z.array(PromptTokens).min(1).max(MAX_CHOICES),
      ],
      'must be a text, a list of token ids, or a list of one of them',
    ),
    /** 0: only the prompt, with `echo` and its log-probabilities, is asked for. */
    max_tokens: z
      .union([z.literal(0), MaxTokens], 'must be a whole number from 0 to 1000000, or -1')
      .optional(),
    /** How many of the most likely tokens to report for each position. */
    logprobs: z.int().min(0).max(20).optional(),
    apar: Apar.extend({ resumable }).optional(),

    /** Of so many choices for each prompt, the `n` most likely are returned. Default: `n`. */
    best_of: z.int().min(1).max(MAX_CHOICES).optional(),
    /** The text begins with the prompt; with `logprobs`, those of its tokens are there, too. */
    echo: z.boolean().optional(),
    suffix: unsupported('suffix is', ''),
  })
  .refine(streamsIfResumable, RESUMABLE_STREAMS)
  .refine(({ best_of, n = 1 }) => best_of === undefined || best_of >= n, {
    path: ['best_of'],
    error: 'must not be less than n',
  })
  .refine(({ best_of, n = 1, stream }) => best_of === undefined || best_of === n || !stream, {
    path: ['best_of'],
    error: 'cannot be streamed: the choices are known at the end',
  })
export type CompletionRequest = Named<z.infer<typeof CompletionRequest>>

export interface CompletionUsage {
  /** Each prompt is counted once, independent of `n`. */
  readonly prompt_tokens: number
  readonly completion_tokens: number
  readonly total_tokens: number
  readonly prompt_tokens_details: { readonly cached_tokens: number }
  /** Of a model that reasons. */
  readonly completion_tokens_details?: { readonly reasoning_tokens: number }
  /**
   * Of all choices; only when tokens were drafted. OpenAI's `accepted_prediction_tokens` are those of a `prediction` that
   * the client sent.
   */
  readonly apar?: { readonly speculation: SpeculationUsage }
}

/** As DeepSeek and vLLM name what the model thinks before it answers: both have the same text. */
export interface ReasoningText {
  readonly reasoning_content?: string
  readonly reasoning?: string
}

export type FinishReason = 'stop' | 'length' | 'tool_calls' | 'function_call'

export interface ChatToolCall {
  readonly id: string
  readonly type: 'function'
  readonly function: { readonly name: string; readonly arguments: string }
}

/** More of a call in a chunk. Its first one has the id and the name, and the others only text of the arguments. */
export interface ChatToolCallDelta {
  readonly index: number
  readonly id?: string
  readonly type?: 'function'
  readonly function: { readonly name?: string; readonly arguments: string }
}

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
  /** null for the first token of a prompt. */
  readonly token_logprobs: readonly (number | null)[]
  readonly top_logprobs: readonly (Readonly<Record<string, number>> | null)[]
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
    readonly message: ReasoningText & {
      readonly role: 'assistant'
      /** null for an answer of calls only. */
      readonly content: string | null
      readonly refusal: null
      readonly tool_calls?: readonly ChatToolCall[]
      /** Where the request has `functions`. */
      readonly function_call?: ChatToolCall['function']
    }
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
  | {
      readonly event: 'fork'
      readonly branch: number
      readonly parent: number
      readonly at: number
      readonly reasoning_at?: number
    }
  | { readonly event: 'reasoning'; readonly branch: number }
  | { readonly event: 'delta'; readonly branch: number }
  | { readonly event: 'branch_end'; readonly branch: number; readonly reason: string }

/** With `apar.trace`: the next steps of a choice's trace, in a chunk without text. */
export type TraceChunk = { readonly event: 'trace' } & Trace

export interface ChatCompletionChunk extends Head<'chat.completion.chunk'> {
  readonly choices: readonly {
    readonly index: number
    readonly delta: ReasoningText & {
      readonly role?: 'assistant'
      readonly content?: string
      readonly tool_calls?: readonly ChatToolCallDelta[]
      readonly function_call?: ChatToolCallDelta['function']
    }
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
