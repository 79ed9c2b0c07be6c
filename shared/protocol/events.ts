import { z } from 'zod'
import { type AparError, ERROR_CODES, type ErrorCode } from '../errors.ts'
import { PROTOCOL_VERSION, SUBPROTOCOL } from './version.ts'

export { PROTOCOL_VERSION, SUBPROTOCOL }

export const FinishReason = z.enum(['stop', 'length', 'abort', 'error'])
export type FinishReason = z.infer<typeof FinishReason>

/**
 * How the texts of parent and child meet: `kept` when the checkpoint was trained with its white space kept, `mended`
 * when training data had lost it around the added tokens (the published APAR checkpoints).
 */
export const Joints = z.enum(['kept', 'mended'])
export type Joints = z.infer<typeof Joints>

export const Usage = z.object({
  prompt_tokens: z.int().min(0),
  /** Of these, found in the prefix cache. */
  cached_prompt_tokens: z.int().min(0),
  completion_tokens: z.int().min(0),
  total_tokens: z.int().min(0),
  /** Completion tokens per branch; [Fork] and the forced [Child] are counted where they stand. */
  branches: z.array(z.object({ branch: z.int().min(0), completion_tokens: z.int().min(0) })),
})
export type Usage = z.infer<typeof Usage>

export const seq = z.int().min(0)
/** The engine's int32. */
export const branch = z
  .int()
  .min(0)
  .max(2 ** 31 - 1)
const codes = Object.keys(ERROR_CODES) as [ErrorCode, ...ErrorCode[]]

/** First event of a stream. Branch 0, the root, exists from here on. */
export const AcceptedEvent = z.object({
  type: z.literal('accepted'),
  seq,
  version: z.literal(PROTOCOL_VERSION),
  /** Name of the stream: who knows it, and holds the key it was opened with, may resume it. */
  stream: z.string(),
  model: z.string(),
  joints: Joints,
  /** Unix time in seconds. */
  created: z.int(),
  /** Changes with what could change a greedy text: checkpoint, arithmetic, device, version. */
  fingerprint: z.string().optional(),
})
/** `branch` begins as a child of `parent`, after the first `at` UTF-16 code units of the parent's own text. */
export const ForkEvent = z.object({
  type: z.literal('fork'),
  seq,
  branch,
  parent: branch,
  at: z.int().min(0),
})
const tokenText = {
  /** Its text; `token_id:<n>` for a token that has none, a broken character as U+FFFD. */
  token: z.string(),
  bytes: z.array(z.int().min(0).max(255)).nullable(),
  /** Natural logarithm; -9999 stands for less than that. */
  logprob: z.number(),
}
/** One token of a branch's text, and the likeliest in its place, likeliest first. */
export const TokenLogprob = z.object({
  /** Where its text begins in the branch's own text, in UTF-16 code units. */
  at: z.int().min(0),
  ...tokenText,
  top: z.array(z.object(tokenText)),
})
export type TokenLogprob = z.infer<typeof TokenLogprob>

/** More text of one branch. Never empty, never splits a code point. */
export const DeltaEvent = z.object({
  type: z.literal('delta'),
  seq,
  branch,
  text: z.string().min(1),
  /** When the request asked for them: those of the tokens that begin in `text`. */
  logprobs: z.array(TokenLogprob).optional(),
})
export const BranchEndEvent = z.object({ type: z.literal('branch_end'), seq, branch, reason: FinishReason })
/** Last event of a stream that ended by itself or was cancelled. */
export const DoneEvent = z.object({ type: z.literal('done'), seq, reason: FinishReason, usage: Usage })
/** Last event of a stream that failed. What came before it stands. */
export const ErrorEvent = z.object({
  type: z.literal('error'),
  seq,
  code: z.enum(codes),
  message: z.string(),
  param: z.string().nullable(),
})

/**
 * One event of a stream, from the gpu node through the edge to the client. `seq` counts from 0 without gaps in each
 * stream. Every stream ends in exactly one `done` or `error`.
 */
export const StreamEvent = z.discriminatedUnion('type', [
  AcceptedEvent,
  ForkEvent,
  DeltaEvent,
  BranchEndEvent,
  DoneEvent,
  ErrorEvent,
])
export type StreamEvent = z.infer<typeof StreamEvent>
export type AcceptedEvent = z.infer<typeof AcceptedEvent>
export type ForkEvent = z.infer<typeof ForkEvent>
export type DeltaEvent = z.infer<typeof DeltaEvent>
export type BranchEndEvent = z.infer<typeof BranchEndEvent>
export type DoneEvent = z.infer<typeof DoneEvent>
export type ErrorEvent = z.infer<typeof ErrorEvent>

/**
 * The deltas `first` to `seq`, for a reader who could not keep up with them one by one: what each branch gained, in the
 * order in which the branches first appear. Only clients that send `ack` get it, in the place of those deltas.
 */
export const DeltasFrame = z.object({
  type: z.literal('deltas'),
  first: seq,
  seq,
  texts: z.array(z.object({ branch, text: z.string().min(1) })).min(1),
})
export type DeltasFrame = z.infer<typeof DeltasFrame>

/** Says nothing, and has no number: proxies cut connections that stay quiet. */
export interface KeepAliveFrame {
  readonly type: 'keep_alive'
}

/** What a client gets. */
export type ServerFrame = StreamEvent | DeltasFrame | KeepAliveFrame

/** The end of a stream that fails after event `seq` - 1. */
export function errorEvent({ code, message, param }: AparError, seq: number): ErrorEvent {
  return { type: 'error', seq, code, message, param: param ?? null }
}

/** True for the event after which a stream sends nothing more. */
export function isTerminal(event: StreamEvent): event is DoneEvent | ErrorEvent {
  return event.type === 'done' || event.type === 'error'
}
