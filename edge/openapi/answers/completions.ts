import { z } from 'zod'
import { SpeculationUsage } from '../../../shared/protocol/speculation.ts'
import { aparTrace, TraceChunk } from './trace.ts'

export const count = z.int().min(0)
/** Unix time, in seconds. */
export const time = z.int().min(0)
/** Beside the usage of other APIs, only when tokens were drafted. */
export const aparUsage = z.strictObject({ speculation: SpeculationUsage.strict() }).optional()

const Usage = z.strictObject({
  prompt_tokens: count,
  completion_tokens: count,
  total_tokens: count,
  prompt_tokens_details: z.strictObject({ cached_tokens: count }),
  completion_tokens_details: z.strictObject({ reasoning_tokens: count }).optional(),
  apar: aparUsage,
})

/** What the model thinks before it answers, under both names. */
const reasoningText = { reasoning_content: z.string().optional(), reasoning: z.string().optional() }

const FinishReason = z.enum(['stop', 'length', 'tool_calls', 'function_call'])

const ToolCall = z.strictObject({
  id: z.string(),
  type: z.literal('function'),
  function: z.strictObject({ name: z.string(), arguments: z.string() }),
})
/** Without an id: more of the arguments. */
const ToolCallDelta = z.strictObject({
  index: count,
  id: z.string().optional(),
  type: z.literal('function').optional(),
  function: z.strictObject({ name: z.string().optional(), arguments: z.string() }),
})

const TokenText = z.strictObject({
  token: z.string(),
  bytes: z.array(z.int().min(0).max(255)).nullable(),
  logprob: z.number(),
})
const ChatLogprobs = z.strictObject({
  content: z.array(TokenText.extend({ top_logprobs: z.array(TokenText) })),
  refusal: z.null(),
})

/** The stop string, or the id of the token, that ended the text. */
const matched_stop = z.union([z.string(), z.int()]).nullish()

/** Only with `return_token_ids`. */
const ids = z.array(count).optional()

const head = { id: z.string(), created: time, model: z.string(), system_fingerprint: z.string().nullable() }

export const ChatCompletion = z.strictObject({
  ...head,
  object: z.literal('chat.completion'),
  choices: z
    .array(
      z.strictObject({
        index: count,
        message: z.looseObject({
          role: z.literal('assistant'),
          content: z.string().nullable(),
          ...reasoningText,
          refusal: z.null(),
          tool_calls: z.array(ToolCall).min(1).optional(),
          function_call: ToolCall.shape.function.optional(),
        }),
        logprobs: ChatLogprobs.nullable(),
        finish_reason: FinishReason,
        matched_stop,
        token_ids: ids,
        apar: aparTrace,
      }),
    )
    .min(1),
  prompt_token_ids: ids,
  usage: Usage,
})

/** With `apar.branch_deltas`: the event and its branch, as in docs/protocol.md. */
const BranchAddress = z.looseObject({
  event: z.enum(['accepted', 'fork', 'delta', 'reasoning', 'branch_end']),
})

export const ChatCompletionChunk = z.strictObject({
  ...head,
  object: z.literal('chat.completion.chunk'),
  choices: z.array(
    z.strictObject({
      index: count,
      delta: z.looseObject({
        role: z.literal('assistant').optional(),
        content: z.string().optional(),
        ...reasoningText,
        tool_calls: z.array(ToolCallDelta).min(1).optional(),
        function_call: ToolCallDelta.shape.function.optional(),
      }),
      logprobs: ChatLogprobs.nullable(),
      finish_reason: FinishReason.nullable(),
      matched_stop,
      token_ids: ids,
    }),
  ),
  prompt_token_ids: ids,
  usage: Usage.nullish(),
  apar: z.union([BranchAddress, TraceChunk]).optional(),
})

const CompletionLogprobs = z.strictObject({
  tokens: z.array(z.string()),
  token_logprobs: z.array(z.number().nullable()),
  top_logprobs: z.array(z.record(z.string(), z.number()).nullable()),
  text_offset: z.array(count),
})

/** Also of a stream's chunks. */
export const Completion = z.strictObject({
  ...head,
  object: z.literal('text_completion'),
  choices: z.array(
    z.looseObject({
      index: count,
      text: z.string(),
      logprobs: CompletionLogprobs.nullable(),
      finish_reason: FinishReason.nullable(),
      prompt_token_ids: ids,
      token_ids: ids,
      apar: aparTrace,
    }),
  ),
  usage: Usage.nullish(),
  apar: TraceChunk.optional(),
})
