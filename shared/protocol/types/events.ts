import type { ErrorCode } from '../../errors.ts'
import type { SpeculationUsage } from './speculation.ts'
import type { TraceStep } from './trace.ts'

/** `stop`: the model or a stop string ended it; `length`: a token limit; `abort`: it was cancelled. */
export type FinishReason = 'stop' | 'length' | 'abort' | 'error'

/**
 * How the texts of parent and child are joined: `kept` when the training data kept its white space, `mended` when the
 * training data had lost the white space around the added tokens (the published APAR checkpoints).
 */
export type Joints = 'kept' | 'mended'

export interface Usage {
  prompt_tokens: number
  /** Prompt tokens found in the prefix cache. */
  cached_prompt_tokens: number
  completion_tokens: number
  total_tokens: number
  /** Completion tokens per branch; [Fork] counts for the parent, the forced [Child] for the child. */
  branches: { branch: number; completion_tokens: number }[]
  /** Completion tokens of the reasoning, its markers included; only where it is separate. */
  reasoning_tokens?: number | undefined
  /** `speculation`: only when tokens were drafted. */
  apar?: { speculation?: SpeculationUsage | undefined } | undefined
}

/** First event of a stream. Branch 0, the root, exists from then on. */
export interface AcceptedEvent {
  type: 'accepted'
  seq: number
  version: 1
  /** Name of the stream; needed to resume it, together with the API key that opened it. */
  stream: string
  model: string
  joints: Joints
  /** Unix time in seconds. */
  created: number
  /** Changes with anything that could change a greedy text: checkpoint, numeric type, device, version. */
  fingerprint?: string | undefined
  /** Of the prompt. Older nodes send none. */
  prompt_tokens?: number | undefined
  /** Only with `return_prompt_token_ids`: the ids of these tokens. */
  prompt_token_ids?: number[] | undefined
}

/** `branch` starts as a child of `parent`, after the first `at` UTF-16 code units of the parent's own text. */
export interface ForkEvent {
  type: 'fork'
  seq: number
  branch: number
  parent: number
  at: number
  /** Only where the parent is reasoning, as the child then is: the fork's place in the parent's own reasoning. */
  reasoning_at?: number | undefined
}

export interface LikelyToken {
  /** The token's text; `token_id:<n>` for a token without text. An incomplete character is U+FFFD. */
  token: string
  bytes: number[] | null
  /** Natural logarithm; smaller values are reported as -9999. */
  logprob: number
}

/** One token of a branch's text, and the most likely tokens at its position, most likely first. */
export interface TokenLogprob extends LikelyToken {
  /** Start of the token's text in the branch's own text, in UTF-16 code units. */
  at: number
  top: LikelyToken[]
}

/** One token of the prompt; the first one has no log-probability. */
export interface PromptToken extends Omit<LikelyToken, 'logprob'> {
  id: number
  logprob: number | null
  top: LikelyToken[]
}

/** Only with `prompt_logprobs`: the tokens of the prompt in order, in one or more events before the first delta. */
export interface PromptEvent {
  type: 'prompt'
  seq: number
  tokens: PromptToken[]
}

/** More text of one branch. Never empty, never splits a code point. */
export interface DeltaEvent {
  type: 'delta'
  seq: number
  branch: number
  text: string
  /** Only if requested: log-probabilities of the tokens whose text starts in `text`. */
  logprobs?: TokenLogprob[] | undefined
  /** Only with `token_counts`: tokens of the branch until then. */
  tokens?: number | undefined
}

/** More of what a branch thinks in front of its text, without markers; no part of the text. Never empty. */
export interface ReasoningEvent {
  type: 'reasoning'
  seq: number
  branch: number
  text: string
  /** Only with `token_counts`: tokens of the branch until then. */
  tokens?: number | undefined
}

/** Only with `tools`: a call of one of them begins, in the root. Its arguments follow, and no more text. */
export interface ToolCallEvent {
  type: 'tool_call'
  seq: number
  /** 0 for the first call. */
  call: number
  /** Letters and digits, the same for no other call. */
  call_id: string
  name: string
}

/** More of the arguments of a call, which are JSON when it is complete. Never empty. */
export interface ToolArgumentsEvent {
  type: 'tool_arguments'
  seq: number
  call: number
  text: string
  /** Only with `token_counts`: tokens of the answer until then. */
  tokens?: number | undefined
}

export interface BranchEndEvent {
  type: 'branch_end'
  seq: number
  branch: number
  reason: FinishReason
  /** Of `stop_token_ids`, the token that ended the branch. */
  stop_token?: number | undefined
  /**
   * Only with `logprobs` and `prompt_logprobs`: log-probabilities of tokens behind the last text, and of the one that ended
   * the branch.
   */
  logprobs?: TokenLogprob[] | undefined
}

/** Only if requested: what the engine's next steps did for the stream. Together they are its trace. */
export interface TraceEvent {
  type: 'trace'
  seq: number
  steps: TraceStep[]
}

/** Last event of a stream that completed or was cancelled. */
export interface DoneEvent {
  type: 'done'
  seq: number
  reason: FinishReason
  usage: Usage
  /** Only when a stop string with `stop_scope: "document"` ended the answer: its length in document order, in UTF-16 code units. */
  text_length?: number | undefined
}

/** Last event of a stream that failed. Earlier events stay valid. */
export interface ErrorEvent {
  type: 'error'
  seq: number
  code: ErrorCode
  message: string
  param: string | null
  /** false: the request itself is the cause, so that it would fail on any gpu node. */
  retry?: false | undefined
}

/**
 * One event of a stream, sent from the gpu node through the edge to the client. In each stream `seq` counts from
 * 0 without gaps. Every stream ends with exactly one `done` or `error`.
 */
export type StreamEvent =
  | AcceptedEvent
  | PromptEvent
  | ForkEvent
  | DeltaEvent
  | ReasoningEvent
  | ToolCallEvent
  | ToolArgumentsEvent
  | BranchEndEvent
  | TraceEvent
  | DoneEvent
  | ErrorEvent
