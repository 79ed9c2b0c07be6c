import type { DType } from './engine-config.ts'
import type { EngineRequest } from './engine-request.ts'

/** The boundary to the native engine (docs/structure.md): few calls, token ids only. native/addon implements it. */

export interface EngineInfo {
  device: string
  dtype: DType
  kvCacheDtype: 'f32' | 'bf16' | 'fp8'
  blockTokens: number
  numBlocks: number
}

export interface EngineStats {
  runningRequests: number
  waitingRequests: number
  liveBranches: number
  runningBranches: number
  /** Set aside, waiting for blocks. */
  preemptedBranches: number
  /** Cached blocks included: they are free to be taken. */
  freeBlocks: number
  /** Hold text that nobody needs now. */
  cachedBlocks: number
  usedBlocks: number
  steps: number
  /** Tokens sampled since the engine was opened, forced [Child] tokens included. */
  generatedTokens: number
  prefillTokens: number
  /** Prompt tokens found in the prefix cache. */
  cachedPromptTokens: number
  forks: number
  /** Where [Fork] would have been likelier than the token taken. */
  forksRefused: number
  preemptions: number
  /** One forward pass in seconds, averaged over about the last 20. */
  stepSeconds: number
}

/** How many of the checkpoint's bytes have reached the device; the last call, all of them, may come after `open` has settled. */
export type OnLoading = (doneBytes: number, totalBytes: number) => void

/** Called once per wake-up with all events so far; `failure` says why the engine died, when it did. */
export type OnEvents = (rows: Int32Array, failure?: string) => void

export interface Engine {
  readonly info: EngineInfo
  /** @throws EngineError at once when the request can never run or the queue is full. */
  submit(request: EngineRequest): void
  /** Ends the request, or one branch and everything below it. Unknown ids are ignored: they may have just ended. */
  abort(requestId: number, branchId?: number): void
  /** Ends one branch with reason STOP, as an end token would; its children go on. For stop strings. */
  stopBranch(requestId: number, branchId: number): void
  stats(): EngineStats
  /** Aborts what runs, delivers its events, frees everything. A second call is harmless. */
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
