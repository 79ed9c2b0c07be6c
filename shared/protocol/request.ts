import { z } from 'zod'
import { OutputFormat } from './output-format.ts'
import { Speculation } from './speculation.ts'
import { ToolCalls, ToolChoice, Tools } from './tools.ts'
import type * as types from './types/request.ts'

export const SMALLEST_FLOAT32 = 1e-45
/** The most that a request may ask for. */
export const MAX_LIVE_BRANCHES = 256
export const MAX_DEPTH = 16
export const MAX_NEW_TOKENS = 1_000_000
/** Of one conversation. A template renders so many in a second. */
export const MAX_MESSAGES = 4096
const MAX_TEMPLATE_VARIABLES_CHARS = 64 * 1024

/** -1 is a random seed. Others are any 64-bit integer, of which the engine uses 32 bits; those below 2^32 stay as they are. */
const Seed = z
  .number()
  .min(-(2 ** 63))
  .max(2 ** 64)
  .refine(Number.isInteger, 'must be a whole number')
  .overwrite(seedOf32Bits)
  .meta({ type: 'integer' })

function seedOf32Bits(seed: number): number {
  if (seed === -1 || (seed >= 0 && seed < 2 ** 32) || !Number.isInteger(seed)) return seed
  // Fibonacci hashing: each of the 64 bits counts.
  return Number(BigInt.asUintN(64, BigInt(seed) * 0x9e37_79b9_7f4a_7c15n) >> 32n)
}

/** One chat message, text only: apar serves no multimodal models. */
export const ChatMessage = z.strictObject({
  role: z.enum(['system', 'user', 'assistant', 'tool']),
  content: z.string().max(1_000_000),
  /** Of an assistant. */
  tool_calls: ToolCalls.optional(),
  tool_call_id: z.string().max(256).optional(),
  /** Of an assistant: what it thought before. Only some templates have it, of the turns since the last question. */
  reasoning_content: z.string().max(1_000_000).optional(),
})
export type ChatMessage = types.ChatMessage

/** Branching limits of one request. Absent fields get the gpu node's defaults. */
export const BranchOptions = z.strictObject({
  /** false: serial decoding, [Fork] is never sampled. Default true. */
  enabled: z.boolean().optional(),
  /** Maximum number of live branches of this request, including the root. */
  max_branches: z.int().min(1).max(MAX_LIVE_BRANCHES).optional(),
  /** Maximum depth; the root has depth 1, so 1 means no forks. */
  max_depth: z.int().min(1).max(MAX_DEPTH).optional(),
  /** Maximum new tokens of one branch, which then ends with reason `length`. Default: no limit per branch. */
  max_branch_tokens: z.int().min(1).max(MAX_NEW_TOKENS).optional(),
})
export type BranchOptions = types.BranchOptions

/**
 * "Don't repeat yourself", as llama.cpp's server has it: a token that would go on with a sequence of at least
 * `dry_allowed_length` tokens that the path has had already loses `dry_multiplier * dry_base ** (length - allowed)` of its
 * logit. Nodes that know it say so with `dry` in their heartbeat.
 */
export const DryFields = z.strictObject({
  /** 0 turns it off. */
  dry_multiplier: z.number().min(0).max(100).optional(),
  /** Default 1.75. */
  dry_base: z.number().min(1).max(100).optional(),
  /** Default 2. */
  dry_allowed_length: z.int().min(1).max(1_000_000).optional(),
  /** How many tokens of the path are looked at; -1 (default): all of them. */
  dry_penalty_last_n: z.int().min(-1).max(MAX_NEW_TOKENS).optional(),
  /** A sequence ends at a token with one of these in its text. Default: line feed, colon, quotation mark, asterisk. */
  dry_sequence_breakers: z.array(z.string().min(1).max(40)).max(8).optional(),
})
export type DryFields = z.infer<typeof DryFields>

/** Fields that OpenAI's API lacks: the adapters of other APIs accept them under `apar`. */
export const FurtherFields = z.strictObject({
  /** 0 and -1 disable it. */
  top_k: z
    .int()
    .min(-1)
    .max(1_000_000)
    .overwrite((value) => Math.max(value, 0))
    .optional(),
  min_p: z.number().min(0).max(1).optional(),
  /** Divides the logits of tokens that are already in the branch's path, in single precision; 1 disables it. */
  repetition_penalty: z.number().min(1e-6).max(10).optional(),
  ...DryFields.shape,
  /**
   * Default `auto`. A source that the model or its gpu node does not have drafts nothing. The text is the same with each
   * of them.
   */
  speculation: Speculation.optional(),
  /** Return a trace with the answer: what each step of the engine did for it (docs/traces.md). */
  trace: z.boolean().optional(),
  /**
   * Members of the objects of an `output_format` are branches, as far as the schema and the limits of `branching` allow it
   * (docs/adr/0078). Nodes that know it say so with its name in their heartbeat.
   */
  parallel_format: z.boolean().optional(),
})

/** A token's id in any vocabulary. */
export const TokenId = z
  .int()
  .min(0)
  .max(2 ** 31 - 1)

/**
 * Fields about the prompt's text and about what ends the answer. Nodes that know them say so with `prompt_options` in
 * their heartbeat.
 */
export const PromptAndEnd = z.strictObject({
  /** The prompt itself, without template and special tokens. */
  prompt_token_ids: z.array(TokenId).min(1).max(MAX_NEW_TOKENS).optional(),
  /** A `prompt` event reports the log-probability of each token of the prompt, and of this many likely ones there. */
  prompt_logprobs: z.int().min(0).max(20).optional(),
  /** The prompt ends with the beginning of an answer. Default true. */
  add_generation_prompt: z.boolean().optional(),
  /** The prompt ends with the last message's content: the answer continues it. */
  continue_final_message: z.boolean().optional(),
  /** Variables of the chat template, beside those that each template has. */
  chat_template_kwargs: z
    .record(z.string().max(64), z.unknown())
    .refine((variables) => JSON.stringify(variables).length <= MAX_TEMPLATE_VARIABLES_CHARS, 'is too long')
    .optional(),
  /** New tokens of the root before which no token ends it; a stop string does. */
  min_tokens: z.int().min(0).max(MAX_NEW_TOKENS).optional(),
  /** The model's own end tokens do not end the root. */
  ignore_eos: z.boolean().optional(),
  /** Tokens that end a branch, as the model's own end tokens do. */
  stop_token_ids: z.array(TokenId).max(256).optional(),
  /** Deltas have `tokens`: how many tokens their branch has until then. */
  token_counts: z.boolean().optional(),
})
export type PromptAndEnd = z.infer<typeof PromptAndEnd>

/**
 * The generation request between edge and gpu node. WebSocket clients send it directly; the OpenAI adapters
 * translate into it. Absent sampling fields get the values of the checkpoint's generation_config.json.
 */
const GenerateFields = z.strictObject({
  model: z.string().min(1).max(256),
  /** At least one, unless the prompt is given as tokens. */
  messages: z.array(ChatMessage).max(MAX_MESSAGES),
  /** Maximum new tokens of all branches together. Default: what the context length leaves. */
  max_tokens: z.int().min(1).max(MAX_NEW_TOKENS).optional(),
  /** 0 is greedy. */
  temperature: z.number().min(0).max(2).optional(),
  /** 0 is as the smallest value: the most likely token. */
  top_p: z
    .number()
    .min(0)
    .max(1)
    // The engine computes in single precision, and 0 would leave it no token.
    .overwrite((value) => Math.max(value, SMALLEST_FLOAT32))
    .optional(),
  ...FurtherFields.shape,
  /** Subtracted from a token's logit for each of its occurrences in the answer part of the branch's path. */
  frequency_penalty: z.number().min(-2).max(2).optional(),
  /** Subtracted once from the logit of each token that occurs in the answer part of the branch's path. */
  presence_penalty: z.number().min(-2).max(2).optional(),
  /** Token id → value added to its logit; ±100 forces or bans the token. */
  logit_bias: z
    .record(z.string().regex(/^\d{1,9}$/, 'keys are token ids'), z.number().min(-100).max(100))
    .refine((bias) => Object.keys(bias).length <= 1024, 'at most 1024 tokens')
    .refine((bias) => {
      const tokens = Object.keys(bias).map(Number)
      return new Set(tokens).size === tokens.length
    }, 'names a token twice')
    .optional(),
  /** Report log-probabilities: of each token, and of this many most likely tokens at its position. */
  logprobs: z.int().min(0).max(20).optional(),
  /** The same seed gives the same text, independent of what else the engine runs. Default: random. */
  seed: Seed.optional(),
  /** Strings that end text; `stop_scope` says which. */
  stop: z.array(z.string().min(1).max(256)).max(16).optional(),
  /**
   * `branch` (default): a branch ends as soon as its own text contains a stop string, and the match is not sent.
   * `document`: the answer ends before the first stop string in document order. Deltas can have text behind that place;
   * `text_length` of `done` says where it is.
   */
  stop_scope: z.enum(['branch', 'document']).optional(),
  branching: BranchOptions.optional(),
  /** The prompt is the concatenated contents of the messages, without a chat template. */
  raw_prompt: z.boolean().optional(),
  /** Nodes that know it say so with `output_format` in their heartbeat. */
  output_format: OutputFormat.optional(),
  /** Nodes that know these say so with `tools` in their heartbeat. */
  tools: Tools.optional(),
  tool_choice: ToolChoice.optional(),
  parallel_tool_calls: z.boolean().optional(),
  /**
   * Whether reasoning comes as `reasoning` events. Without them, its markers are text as the rest. Default true; nodes
   * that know the field say so with its name in their heartbeat, and get it from the edge.
   */
  separate_reasoning: z.boolean().optional(),
  /** `accepted` has the ids of the prompt's tokens. Nodes that know it say so with its name in their heartbeat. */
  return_prompt_token_ids: z.boolean().optional(),
  ...PromptAndEnd.shape,
})

export const GenerateRequest = GenerateFields.refine(
  ({ messages, prompt_token_ids }) => messages.length > 0 || prompt_token_ids !== undefined,
  { path: ['messages'], error: 'must have at least one' },
)
  .refine(({ messages, prompt_token_ids }) => messages.length === 0 || prompt_token_ids === undefined, {
    path: ['prompt_token_ids'],
    error: 'is a prompt: messages must be empty',
  })
  .refine(
    ({ continue_final_message, add_generation_prompt }) => !continue_final_message || !add_generation_prompt,
    {
      path: ['continue_final_message'],
      error: 'and add_generation_prompt exclude each other',
    },
  )
  .refine(({ min_tokens = 0, max_tokens }) => min_tokens <= (max_tokens ?? MAX_NEW_TOKENS), {
    path: ['min_tokens'],
    error: 'must not exceed the maximum of new tokens',
  })
  .refine(({ output_format, ignore_eos }) => !output_format || !ignore_eos, {
    path: ['ignore_eos'],
    error: 'and a format of the answer exclude each other',
  })
  .refine(({ tools = [], tool_choice }) => namesTool(tool_choice, tools), {
    path: ['tool_choice'],
    error: 'names none of the tools',
  })
  .refine(({ tools, tool_choice }) => tools !== undefined || tool_choice !== 'required', {
    path: ['tool_choice'],
    error: 'needs tools',
  })
  .refine(({ tools, ignore_eos }) => !tools || !ignore_eos, {
    path: ['ignore_eos'],
    error: 'and tools exclude each other',
  })
  .refine(({ tools, raw_prompt, prompt_token_ids }) => !tools || !(raw_prompt || prompt_token_ids), {
    path: ['tools'],
    error: 'need a chat',
  })
export type GenerateRequest = types.GenerateRequest

function namesTool(
  choice: types.GenerateRequest['tool_choice'],
  tools: readonly { name: string }[],
): boolean {
  return typeof choice !== 'object' || tools.some(({ name }) => name === choice.name)
}
