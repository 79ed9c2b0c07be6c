import { z } from 'zod'

/** One chat message. Only text: the models that apar serves read nothing else. */
export const ChatMessage = z.strictObject({
  role: z.enum(['system', 'user', 'assistant']),
  content: z.string().max(1_000_000),
})
export type ChatMessage = z.infer<typeof ChatMessage>

/** How one request may branch. Absent fields take the gpu node's defaults. */
export const BranchOptions = z.strictObject({
  /** false decodes serially: [Fork] is never sampled. Default true. */
  enabled: z.boolean().optional(),
  /** Most branches alive at the same time in this request, the root included. */
  max_branches: z.int().min(1).max(256).optional(),
  /** Depth of the deepest branch; the root has depth 1, so 1 never forks. */
  max_depth: z.int().min(1).max(16).optional(),
  /** New tokens of one branch; it ends with reason `length`. Default: no limit of its own. */
  max_branch_tokens: z.int().min(1).max(1_000_000).optional(),
})
export type BranchOptions = z.infer<typeof BranchOptions>

/** How to sample, where OpenAI's API has no field for it: its adapters take these under `apar`. */
export const FurtherSampling = z.strictObject({
  /** 0 turns it off. */
  top_k: z.int().min(0).max(1_000_000).optional(),
  min_p: z.number().min(0).max(1).optional(),
  /** 1 turns it off; divides the logits of tokens already in the branch's path. */
  repetition_penalty: z.number().gt(0).max(10).optional(),
})

/**
 * What to generate: the one request shape between edge and gpu node. The WebSocket protocol sends it as it is; the
 * OpenAI adapters translate into it. Absent sampling fields take the checkpoint's generation_config.json.
 */
export const GenerateRequest = z.strictObject({
  model: z.string().min(1).max(256),
  messages: z.array(ChatMessage).min(1).max(1024),
  /** New tokens of all branches together. Default: what the context length leaves. */
  max_tokens: z.int().min(1).max(1_000_000).optional(),
  /** 0 is greedy. */
  temperature: z.number().min(0).max(2).optional(),
  // In single precision, as the engine has it, still more than 0.
  top_p: z.number().min(1e-45).max(1).optional(),
  ...FurtherSampling.shape,
  /** Taken off a token's logit for each time the branch's path has it in the answer. */
  frequency_penalty: z.number().min(-2).max(2).optional(),
  /** Taken off once for a token that the branch's path has in the answer. */
  presence_penalty: z.number().min(-2).max(2).optional(),
  /** Token id → what is added to its logit; ±100 forces or forbids it. */
  logit_bias: z
    .record(z.string().regex(/^\d{1,9}$/, 'keys are token ids'), z.number().min(-100).max(100))
    .refine((bias) => Object.keys(bias).length <= 1024, 'at most 1024 tokens')
    .optional(),
  /** Log-probabilities beside the text: of each token, and of so many of the likeliest in its place. */
  logprobs: z.int().min(0).max(20).optional(),
  /** Same seed, same text, whatever else the engine runs. Default: drawn at random. */
  seed: z.int().min(0).max(0xffff_ffff).optional(),
  /** A branch ends where its own text would first contain one of these; the match is not sent. */
  stop: z.array(z.string().min(1).max(256)).max(16).optional(),
  branching: BranchOptions.optional(),
  /** The messages' contents as they are, joined, are the prompt: no chat template. */
  raw_prompt: z.boolean().optional(),
})
export type GenerateRequest = z.infer<typeof GenerateRequest>
