import { z } from 'zod'
import type * as types from './types/trace.ts'

/**
 * Version of {@link TraceStep} and of the files of `apar trace` (docs/traces.md). Fields may be added within a version;
 * it is raised when one changes its meaning or goes.
 */
export const TRACE_VERSION = 1

const int32 = z
  .int()
  .min(0)
  .max(2 ** 31 - 1)
const branch = int32

/**
 * What one step of the engine did for a request: a forward pass in which the request had rows. Tokens of the prompt are
 * computed in steps without tokens of the answer. The last record of a request that was ended between two steps has no
 * rows.
 */
export const TraceStep = z.object({
  /** Number of the step since the engine was opened; the same for all requests in it. */
  step: int32,
  /** Microseconds from the request's acceptance by the engine to the end of the step. */
  us: z.int().min(0),
  /** Rows of the step: those of this request, and of all. A row is one token, computed in all layers. */
  rows: int32,
  batch_rows: int32,
  /** Live branches of the request when the step began, and those of them whose next token it could sample. */
  live: int32,
  sampled: int32,
  /** KV blocks that hold the paths of the request's live branches, each once; and blocks in use by all requests. */
  blocks: int32,
  used_blocks: int32,
  /** Tokens in those of the request's blocks. */
  cached: int32,
  /** Tokens that the request's rows attend to, themselves included: the sum over its rows. */
  attended: int32,
  /** Speculative decoding: candidates that were verified, and those that became tokens. Absent without candidates. */
  drafted: int32.optional(),
  accepted: int32.optional(),
  /**
   * New tokens by branch, [Fork] and the forced [Child] among them, the token that ends a branch not; and the text that
   * they complete, '' for control tokens and parts of characters. Without ids, what is left of a character where its
   * branch ends. In order of id.
   */
  tokens: z.array(z.object({ branch, ids: z.array(int32), text: z.string() })),
  /** `branch` starts as a child of `parent` behind [Fork], which is token `position` of the parent's path, prompt included. */
  forks: z.array(z.object({ branch, parent: branch, position: int32 })),
  ends: z.array(z.object({ branch, reason: z.enum(['stop', 'length', 'abort', 'error']) })),
  /** Of the first step: the token ids of the prompt, those of the chat template among them. */
  prompt: z.array(int32).optional(),
  /** The stream has moved: from here on, steps are counted by another engine. */
  moved: z.literal(true).optional(),
})
export type TraceStep = types.TraceStep

export type Trace = types.Trace
