import type { OutputFormat } from './output-format.ts'
import type { Speculation } from './speculation.ts'
import type { Tool, ToolCall, ToolChoice } from './tools.ts'

/** One chat message, text only: apar serves no multimodal models. */
export interface ChatMessage {
  role: 'system' | 'user' | 'assistant' | 'tool'
  content: string
  /** Of an assistant: the tools that it has called. */
  tool_calls?: ToolCall[] | undefined
  /** Of a tool's result: the `id` of the call. */
  tool_call_id?: string | undefined
  /** Of an assistant: what it thought before. Only some templates have it, of the turns since the last question. */
  reasoning_content?: string | undefined
}

/** Branching limits of one request. Absent fields get the gpu node's defaults. */
export interface BranchOptions {
  /** false: serial decoding, [Fork] is never sampled. Default true. */
  enabled?: boolean | undefined
  /** Maximum number of live branches of this request, including the root: 1 to 256. */
  max_branches?: number | undefined
  /** Maximum depth, 1 to 16; the root has depth 1, so 1 means no forks. */
  max_depth?: number | undefined
  /** Maximum new tokens of one branch, which then ends with reason `length`. Default: no limit per branch. */
  max_branch_tokens?: number | undefined
}

/** What to generate. Absent sampling fields get the values of the checkpoint's generation_config.json. */
export interface GenerateRequest {
  model: string
  /** At least one, unless the prompt is given as tokens. */
  messages: ChatMessage[]
  /** Maximum new tokens of all branches together. Default: what the context length leaves. */
  max_tokens?: number | undefined
  /** 0 (greedy) to 2. */
  temperature?: number | undefined
  /** 0 to 1; 0 is as the smallest value: the most likely token. */
  top_p?: number | undefined
  /** 0 and -1 disable it. */
  top_k?: number | undefined
  /** 0 to 1. */
  min_p?: number | undefined
  /** Divides the logits of tokens that are already in the branch's path, in single precision; 1 disables it. */
  repetition_penalty?: number | undefined
  /**
   * "Don't repeat yourself", as llama.cpp's server has it: a token that would go on with a sequence that the path has had
   * already loses of its logit, the more the longer the sequence. 0 turns it off.
   */
  dry_multiplier?: number | undefined
  /** From 1; default 1.75. */
  dry_base?: number | undefined
  /** Tokens that may repeat; default 2. */
  dry_allowed_length?: number | undefined
  /** How many tokens of the path are looked at; -1 (default): all of them. */
  dry_penalty_last_n?: number | undefined
  /** A sequence ends at a token with one of these in its text. Default: line feed, colon, quotation mark, asterisk. */
  dry_sequence_breakers?: string[] | undefined
  /** -2 to 2. Subtracted from a token's logit for each of its occurrences in the answer part of the branch's path. */
  frequency_penalty?: number | undefined
  /** -2 to 2. Subtracted once from the logit of each token that occurs in the answer part of the branch's path. */
  presence_penalty?: number | undefined
  /** Token id → value added to its logit; ±100 forces or bans the token. */
  logit_bias?: Record<string, number> | undefined
  /** Report log-probabilities: of each token, and of this many (0 to 20) most likely tokens at its position. */
  logprobs?: number | undefined
  /** The same seed gives the same text, independent of what else the engine runs. Default, and -1: random. */
  seed?: number | undefined
  /** Up to 16 strings that end text; `stop_scope` says which. */
  stop?: string[] | undefined
  /**
   * `branch` (default): a branch ends as soon as its own text contains a stop string, and the match is not sent.
   * `document`: the answer ends before the first stop string in document order. Deltas can have text behind that place;
   * `text_length` of `done` says where it is.
   */
  stop_scope?: 'branch' | 'document' | undefined
  branching?: BranchOptions | undefined
  /**
   * Default `auto`. A source that the model or its gpu node does not have drafts nothing. The text is the same with each
   * of them.
   */
  speculation?: Speculation | undefined
  /** Return a trace with the answer: what each step of the engine did for it. */
  trace?: boolean | undefined
  /**
   * Members of the objects of an `output_format` are branches, as far as the schema and the limits of `branching` allow it.
   * Default false.
   */
  parallel_format?: boolean | undefined
  /** The prompt is the concatenated contents of the messages, without a chat template. */
  raw_prompt?: boolean | undefined
  /** The prompt itself, without template and special tokens; `messages` is then empty. */
  prompt_token_ids?: number[] | undefined
  /** A `prompt` event reports the log-probability of each token of the prompt, and of this many likely ones there. */
  prompt_logprobs?: number | undefined
  /** The prompt ends with the beginning of an answer. Default true. */
  add_generation_prompt?: boolean | undefined
  /** The prompt ends with the last message's content: the answer continues it. */
  continue_final_message?: boolean | undefined
  /** Variables of the chat template, beside those that each template has. */
  chat_template_kwargs?: Record<string, unknown> | undefined
  /** New tokens of the root before which no token ends it; a stop string does. */
  min_tokens?: number | undefined
  /** The model's own end tokens do not end the root. */
  ignore_eos?: boolean | undefined
  /** Tokens that end a branch, as the model's own end tokens do. */
  stop_token_ids?: number[] | undefined
  /** What the answer has to match; it forks only with `parallel_format`. */
  output_format?: OutputFormat | undefined
  /** The answer may call them; it does not fork then. */
  tools?: Tool[] | undefined
  /** Default `auto`. */
  tool_choice?: ToolChoice | undefined
  /** Whether an answer may have several calls. Default true. */
  parallel_tool_calls?: boolean | undefined
  /** Whether reasoning comes as `reasoning` events. Without them, its markers are text as the rest. Default true. */
  separate_reasoning?: boolean | undefined
  /** `accepted` has the ids of the prompt's tokens. Default false. */
  return_prompt_token_ids?: boolean | undefined
  /** Deltas have `tokens`: how many tokens their branch has until then. */
  token_counts?: boolean | undefined
}
