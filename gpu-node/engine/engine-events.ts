/** Rows of 5 int32: [kind, request, branch, a, b]. */
export const EVENT_WIDTH = 5
export const EVENT = {
  /** a = token id; the forced [Child] and a sampled [Fork] are reported too, an end-of-branch token is not. */
  TOKEN: 1,
  /** branch = parent, a = child, b = position of [Fork] in the parent's path; follows the parent's TOKEN [Fork]. */
  FORK: 2,
  /** a = FINISH reason; the branch samples no more. */
  BRANCH_END: 3,
  /**
   * a = FINISH reason, b = prompt tokens found in the prefix cache; exactly one per accepted request, its last event;
   * branch is 0.
   */
  FINISH: 4,
  /**
   * a = token, b = the bits of its float32 log-probability, before bans, penalties and temperature. Follow a TOKEN when asked
   * for: the chosen token's first, then the likeliest. A forced [Child] has none.
   */
  LOGPROB: 5,
} as const
export const FINISH = { STOP: 1, LENGTH: 2, ABORT: 3, ERROR: 4 } as const
