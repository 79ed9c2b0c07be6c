/** Engine events are rows of 5 int32: [kind, request, branch, a, b]. */
export const EVENT_WIDTH = 5
export const EVENT = {
  /** a = token id. Includes the forced [Child] and a sampled [Fork]; an end-of-branch token is not reported. */
  TOKEN: 1,
  /** branch = parent, a = child, b = position of [Fork] in the parent's path; follows the parent's TOKEN [Fork]. */
  FORK: 2,
  /** a = FINISH reason. */
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
} as const
export const FINISH = { STOP: 1, LENGTH: 2, ABORT: 3, ERROR: 4, NOT_FINITE: 5 } as const
