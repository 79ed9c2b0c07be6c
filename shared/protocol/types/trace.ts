/**
 * What one step of the engine did for a request: a forward pass in which the request had rows. Tokens of the prompt are
 * computed in steps without tokens of the answer. The last record of a request that was ended between two steps has no
 * rows.
 */
export interface TraceStep {
  /** Number of the step since the engine was opened; the same for all requests in it. */
  step: number
  /** Microseconds from the request's acceptance by the engine to the end of the step. */
  us: number
  /** Rows of the step: those of this request. A row is one token, computed in all layers. */
  rows: number
  /** Rows of the step: those of all requests. */
  batch_rows: number
  /** Live branches of the request when the step began. */
  live: number
  /** Those of the live branches whose next token the step could sample. */
  sampled: number
  /** KV blocks that hold the paths of the request's live branches, each once. */
  blocks: number
  /** KV blocks in use by all requests. */
  used_blocks: number
  /** Tokens in those of the request's blocks. */
  cached: number
  /** Tokens that the request's rows attend to, themselves included: the sum over its rows. */
  attended: number
  /** Speculative decoding: candidates that were verified. Absent without candidates. */
  drafted?: number | undefined
  /** Candidates that became tokens. */
  accepted?: number | undefined
  /**
   * New tokens by branch, [Fork] and the forced [Child] among them, the token that ends a branch not; and the text that
   * they complete, '' for control tokens and parts of characters. Without ids, what is left of a character where its
   * branch ends. In order of id.
   */
  tokens: { branch: number; ids: number[]; text: string }[]
  /** `branch` starts as a child of `parent` behind [Fork], which is token `position` of the parent's path, prompt included. */
  forks: { branch: number; parent: number; position: number }[]
  ends: { branch: number; reason: 'stop' | 'length' | 'abort' | 'error' }[]
  /** Of the first step: the token ids of the prompt, those of the chat template among them. */
  prompt?: number[] | undefined
  /** The stream has moved: from here on, steps are counted by another engine. */
  moved?: true | undefined
}

/** A trace as the HTTP APIs return it with an answer. */
export interface Trace {
  readonly version: 1
  readonly steps: readonly TraceStep[]
}
