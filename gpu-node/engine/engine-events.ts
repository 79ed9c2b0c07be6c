import { ROW_KIND } from '../../shared/protocol/node.ts'

/** Engine events are rows of 5 int32: [kind, request, branch, a, b]. */
export const EVENT_WIDTH = 5
export const EVENT = {
  /** a = token id. Includes the forced [Child] and a sampled [Fork]; an end-of-branch token is not reported. */
  TOKEN: ROW_KIND.TOKEN,
  /** branch = parent, a = child, b = position of [Fork] in the parent's path; follows the parent's TOKEN [Fork]. */
  FORK: ROW_KIND.FORK,
  /** a = FINISH reason, b = 1 + the token that ended it, or 0: a limit, a stop string or an abort did. */
  BRANCH_END: ROW_KIND.BRANCH_END,
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
  /**
   * Only of a request with `trace`: branch = TRACE_FIELD, a and b as there. The rows of a step, in which the request has
   * rows of the forward pass, come behind its other events; that of the field STEP is the last one. A last step, without
   * rows of the forward pass if the request was ended between two, comes before FINISH.
   */
  TRACE: 8,
  /**
   * a = the token that ends the branch, which has no TOKEN row. Its LOGPROB rows follow, then BRANCH_END. Only of a request
   * that has the log-probabilities of its prompt and of its answer.
   */
  END_TOKEN: 9,
} as const
/** a and b, of the request and of all requests, in a step (native/core/step_trace.h). They stop at 2^31 - 1. */
export const TRACE_FIELD = {
  /** a = number of the step, b = microseconds since the row before of this field, at first since the request was accepted. */
  STEP: 1,
  /** a = rows of the request, b = rows of the step. */
  ROWS: 2,
  /** a = live branches of the request at the step's beginning, b = those of them that it samples. */
  BRANCHES: 3,
  /** a = blocks of the paths of the request's live branches, b = used blocks of the pool. */
  BLOCKS: 4,
  /** a = tokens that the request's rows attend to, summed over the rows; b = tokens in its blocks. */
  TOKENS: 5,
  /** a = candidates of the request, b = those that were accepted. Only where there were some. */
  DRAFTS: 6,
} as const
/** Where drafted tokens come from: the checkpoint's Medusa heads, or text that was seen before. */
export const DRAFT_SOURCE = { HEADS: 1, NGRAM: 2 } as const
export const DEPTH_STEP = 256
export const FINISH = { STOP: 1, LENGTH: 2, ABORT: 3, ERROR: 4, NOT_FINITE: 5, UNMATCHED: 6 } as const

/** The float32 with these bits. */
export function float32(bits: number): number {
  FLOAT_BITS.setInt32(0, bits)
  return FLOAT_BITS.getFloat32(0)
}

const FLOAT_BITS = new DataView(new ArrayBuffer(4))
