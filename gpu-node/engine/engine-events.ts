/** Engine events are rows of 5 int32: [kind, request, branch, a, b]. */
export const EVENT_WIDTH = 5
export const EVENT = {
  /** a = token id. Includes the forced [Child] and a sampled [Fork]; an end-of-branch token is not reported. */
  TOKEN: 1,
  /** branch = parent, a = child, b = position of [Fork] in the parent's path; follows the parent's TOKEN [Fork]. */
  FORK: 2,
  /** a = FINISH reason, b = 1 + the token of `stopTokens` that ended it, or 0. */
  BRANCH_END: 3,
  /**
   * The last event of a request, exactly one per accepted request: branch = 0, a = FINISH reason, b = prompt tokens
   * found in the prefix cache.
   */
  FINISH: 4,
  /**
   * a = token, b = the bits of its float32 log-probability, before logit masks, penalties and temperature. If requested,
   * these rows follow a TOKEN row: first the sampled token's, then those of the most likely tokens. A forced [Child] has
   * none.
   */
  LOGPROB: 5,
  /**
   * Speculative decoding: branch = DRAFT_SOURCE + DEPTH_STEP * depth, a = tokens drafted there, b = those of them that
   * became tokens of the answer; all since the last such row of the same place, so rows add up. Depth 0 is the token after
   * the model's own; n-grams report all their tokens there. The last rows come right before FINISH. A request without
   * drafts has none.
   */
  SPECULATION: 6,
  /**
   * As LOGPROB for the prompt, before the first TOKEN: branch = the position of the token in the prompt, from 1. First the
   * row of the prompt's own token, then those of the most likely ones.
   */
  PROMPT_LOGPROB: 7,
} as const
/** Where drafted tokens come from: the checkpoint's Medusa heads, or text that was seen before. */
export const DRAFT_SOURCE = { HEADS: 1, NGRAM: 2 } as const
export const DEPTH_STEP = 256
export const FINISH = { STOP: 1, LENGTH: 2, ABORT: 3, ERROR: 4, NOT_FINITE: 5 } as const
