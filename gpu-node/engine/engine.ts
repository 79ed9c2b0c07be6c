import type { DType } from './engine-config.ts'
import type { EngineGrammar, EngineRequest } from './engine-request.ts'
import type { MemoryPlan } from './memory-plan.ts'

export interface EngineInfo {
  device: string
  dtype: DType
  kvCacheDtype: 'f32' | 'bf16' | 'fp8'
  blockTokens: number
  numBlocks: number
  /** Tokens of the longest request: the model's context, or what the KV pool can hold if that is less. */
  contextTokens: number
}

/** Tokens by the source that drafted them. */
export interface TokensBySource {
  medusa: number
  ngram: number
}

export interface EngineStats {
  runningRequests: number
  waitingRequests: number
  liveBranches: number
  runningBranches: number
  /** Waiting for KV blocks after a preemption. */
  preemptedBranches: number
  /** Includes cached blocks, which can be reused at once. */
  freeBlocks: number
  /** Blocks of the prefix cache that no running request uses. */
  cachedBlocks: number
  usedBlocks: number
  steps: number
  /** Tokens sampled since the engine was opened, forced [Child] tokens included. */
  generatedTokens: number
  prefillTokens: number
  /** Prompt tokens found in the prefix cache. */
  cachedPromptTokens: number
  forks: number
  /** Times that [Fork] had the largest logit but was masked. */
  forksRefused: number
  /** Speculative decoding: tokens drafted, over all requests. */
  draftedTokens: TokensBySource
  /** Those of them that became tokens of answers. */
  acceptedTokens: TokensBySource
  preemptions: number
  /** Masks of tokens that a grammar allows, made beside forward passes, and the seconds that all of them took. */
  grammarMasks: number
  grammarMaskSeconds: number
  /** Duration of a forward pass in seconds, averaged over about the last 20. */
  stepSeconds: number
  /** Rows that the last forward pass could have. */
  rowLimit: number
}

/** Bytes of the checkpoint that have been loaded to the device. The last call (all bytes) may come after `open` has settled. */
export type OnLoading = (doneBytes: number, totalBytes: number) => void

/** Called before weights are read. */
export type OnPlan = (plan: MemoryPlan) => void

/** Called with all events since the last call; `failure` is the reason if the engine has failed. */
export type OnEvents = (rows: Int32Array, failure?: string) => void

/** The native engine: few calls, and only token ids cross. native/addon implements it. */
export interface Engine {
  readonly info: EngineInfo
  /** @throws EngineError when the request is invalid, can never run, or the queue is full. */
  submit(request: EngineRequest): void
  /** Ends the request, or one branch and its descendants. Unknown ids are ignored: they may have just ended. */
  abort(requestId: number, branchId?: number): void
  stats(): EngineStats
  /**
   * Loads what apar_compile_grammar has compiled for the model's vocabulary; `folder` has the grammar engine's libraries.
   * Takes tens of milliseconds for a megabyte, in another thread.
   */
  loadGrammar(folder: string, compiled: Uint8Array): Promise<EngineGrammar>
  /** Aborts all requests, delivers their last events and frees all memory. A second call does nothing. */
  close(): Promise<void>
}

export type EngineErrorCode =
  | 'invalid_config'
  | 'invalid_weights'
  | 'invalid_request'
  | 'duplicate_request'
  | 'queue_full'
  | 'request_too_large'
  | 'out_of_memory'
  | 'unavailable'
  | 'closed'
  | 'internal'
