import { z } from 'zod'
import { AparError, ERROR_CODES, type ErrorCode } from '../errors.ts'
import { TokenId } from './request.ts'
import { SpeculationUsage } from './speculation.ts'
import { TraceStep } from './trace.ts'
import type * as types from './types/events.ts'
import { PROTOCOL_VERSION, SUBPROTOCOL } from './version.ts'

export { PROTOCOL_VERSION, SUBPROTOCOL }

export const FinishReason = z.enum(['stop', 'length', 'abort', 'error'])
export type FinishReason = types.FinishReason

export const Joints = z.enum(['kept', 'mended'])
export type Joints = types.Joints

export const Usage = z.object({
  prompt_tokens: z.int().min(0),
  /** Prompt tokens found in the prefix cache. */
  cached_prompt_tokens: z.int().min(0),
  completion_tokens: z.int().min(0),
  total_tokens: z.int().min(0),
  /** Completion tokens per branch; [Fork] counts for the parent, the forced [Child] for the child. */
  branches: z.array(z.object({ branch: z.int().min(0), completion_tokens: z.int().min(0) })),
  /** Completion tokens of the reasoning, its markers included; only where it is separate. */
  reasoning_tokens: z.int().min(0).optional(),
  /** `speculation`: only when tokens were drafted. */
  apar: z.object({ speculation: SpeculationUsage.optional() }).optional(),
})
export type Usage = types.Usage

export const seq = z.int().min(0)
/** Branch ids are int32 in the engine. */
export const branch = z
  .int()
  .min(0)
  .max(2 ** 31 - 1)
/** Nodes are upgraded before the edge: a code that this version does not know must not make the event invalid. */
const errorCode = z
  .string()
  .regex(/^[a-z_]{1,64}$/)
  .transform((code): ErrorCode => (Object.hasOwn(ERROR_CODES, code) ? (code as ErrorCode) : 'internal_error'))

/** First event of a stream. Branch 0, the root, exists from then on. */
export const AcceptedEvent = z.object({
  type: z.literal('accepted'),
  seq,
  version: z.literal(PROTOCOL_VERSION),
  /** Name of the stream; needed to resume it, together with the API key that opened it. */
  stream: z.string(),
  model: z.string(),
  joints: Joints,
  /** Unix time in seconds. */
  created: z.int(),
  /** Changes with anything that could change a greedy text: checkpoint, numeric type, device, version. */
  fingerprint: z.string().optional(),
  /** Of the prompt. Older nodes send none. */
  prompt_tokens: z.int().min(0).optional(),
  /** Only with `return_prompt_token_ids`: the ids of these tokens. */
  prompt_token_ids: z.array(TokenId).optional(),
})
/** `branch` starts as a child of `parent`, after the first `at` UTF-16 code units of the parent's own text. */
export const ForkEvent = z.object({
  type: z.literal('fork'),
  seq,
  branch,
  parent: branch,
  at: z.int().min(0),
  /** Only where the parent is reasoning, as the child then is: the fork's place in the parent's own reasoning. */
  reasoning_at: z.int().min(0).optional(),
})
const tokenText = {
  /** The token's text; `token_id:<n>` for a token without text. An incomplete character is U+FFFD. */
  token: z.string(),
  bytes: z.array(z.int().min(0).max(255)).nullable(),
  /** Natural logarithm; smaller values are reported as -9999. */
  logprob: z.number(),
}
/** One token of a branch's text, and the most likely tokens at its position, most likely first. */
export const TokenLogprob = z.object({
  /** Start of the token's text in the branch's own text, in UTF-16 code units. */
  at: z.int().min(0),
  ...tokenText,
  top: z.array(z.object(tokenText)),
})
export type TokenLogprob = types.TokenLogprob

/**
 * Only with `prompt_logprobs`: the tokens of the prompt in order, in one or more events before the first delta. The first
 * token has no log-probability.
 */
export const PromptEvent = z.object({
  type: z.literal('prompt'),
  seq,
  tokens: z.array(
    z.object({
      ...tokenText,
      logprob: z.number().nullable(),
      id: z.int(),
      top: z.array(z.object(tokenText)),
    }),
  ),
})
export type PromptEvent = types.PromptEvent

/** More text of one branch. Never empty, never splits a code point. */
export const DeltaEvent = z.object({
  type: z.literal('delta'),
  seq,
  branch,
  text: z.string().min(1),
  /** Only if requested: log-probabilities of the tokens whose text starts in `text`. */
  logprobs: z.array(TokenLogprob).optional(),
  /** Only with `token_counts`: tokens of the branch until then. */
  tokens: z.int().min(0).optional(),
})
/** More of what a branch thinks in front of its text, without markers; no part of the text. Never empty. */
export const ReasoningEvent = z.object({
  type: z.literal('reasoning'),
  seq,
  branch,
  text: z.string().min(1),
  tokens: z.int().min(0).optional(),
})
/** Only with `tools`: a call of one of them begins, in the root. Its arguments follow, and no more text. */
export const ToolCallEvent = z.object({
  type: z.literal('tool_call'),
  seq,
  /** 0 for the first call. */
  call: z.int().min(0),
  /** Letters and digits, the same for no other call. */
  call_id: z.string().regex(/^[A-Za-z0-9]{1,64}$/),
  name: z.string().min(1).max(128),
})
/** More of the arguments of a call, which are JSON when it is complete. Never empty. */
export const ToolArgumentsEvent = z.object({
  type: z.literal('tool_arguments'),
  seq,
  call: z.int().min(0),
  text: z.string().min(1),
  tokens: z.int().min(0).optional(),
})
export const BranchEndEvent = z.object({
  type: z.literal('branch_end'),
  seq,
  branch,
  reason: FinishReason,
  /** Of `stop_token_ids`, the token that ended the branch. */
  stop_token: z.int().min(0).optional(),
  /**
   * Only with `logprobs` and `prompt_logprobs`: log-probabilities of tokens behind the last text, and of the one that ended
   * the branch.
   */
  logprobs: z.array(TokenLogprob).optional(),
})
/** Only if requested: what the engine's next steps did for the stream. Together they are its trace (docs/traces.md). */
export const TraceEvent = z.object({ type: z.literal('trace'), seq, steps: z.array(TraceStep).min(1) })
/** Last event of a stream that completed or was cancelled. */
export const DoneEvent = z.object({
  type: z.literal('done'),
  seq,
  reason: FinishReason,
  usage: Usage,
  /** Only when a stop string with `stop_scope: "document"` ended the answer: its length in document order, in UTF-16 code units. */
  text_length: z.int().min(0).optional(),
})
/** Last event of a stream that failed. Earlier events stay valid. */
export const ErrorEvent = z.object({
  type: z.literal('error'),
  seq,
  code: errorCode,
  message: z.string(),
  param: z.string().nullable(),
  /** false: the request itself is the cause, so that it would fail on any gpu node. */
  retry: z.literal(false).optional(),
})

export const StreamEvent = z.discriminatedUnion('type', [
  AcceptedEvent,
  PromptEvent,
  ForkEvent,
  DeltaEvent,
  ReasoningEvent,
  ToolCallEvent,
  ToolArgumentsEvent,
  BranchEndEvent,
  TraceEvent,
  DoneEvent,
  ErrorEvent,
])
export type StreamEvent = types.StreamEvent
export type AcceptedEvent = types.AcceptedEvent
export type ForkEvent = types.ForkEvent
export type DeltaEvent = types.DeltaEvent
export type ReasoningEvent = types.ReasoningEvent
export type ToolCallEvent = types.ToolCallEvent
export type ToolArgumentsEvent = types.ToolArgumentsEvent
export type BranchEndEvent = types.BranchEndEvent
export type TraceEvent = types.TraceEvent
export type DoneEvent = types.DoneEvent
export type ErrorEvent = types.ErrorEvent

/**
 * Replaces the deltas `first` to `seq` when several are ready at once: the new text of each branch, in the order
 * in which the branches first appear. Sent only to clients with flow control (`ack`).
 */
export const DeltasFrame = z.object({
  type: z.literal('deltas'),
  first: seq,
  seq,
  texts: z.array(z.object({ branch, text: z.string().min(1) })).min(1),
})
export type DeltasFrame = z.infer<typeof DeltasFrame>

/** Has no content and no number: it keeps proxies from closing an idle connection. */
export interface KeepAliveFrame {
  readonly type: 'keep_alive'
}

/** What the edge sends to a client. */
export type ServerFrame = StreamEvent | DeltasFrame | KeepAliveFrame

/** The last event of a stream that fails after event `seq` - 1. */
export function errorEvent({ code, message, param }: AparError, seq: number): ErrorEvent {
  return { type: 'error', seq, code, message, param: param ?? null }
}

/** True for the last event of a stream. */
export function isTerminal(event: StreamEvent): event is DoneEvent | ErrorEvent {
  return event.type === 'done' || event.type === 'error'
}

/** The error of an `error` event. */
export function errorOf({ code, message, param }: ErrorEvent): AparError {
  return new AparError(code, message, { param: param ?? undefined })
}
