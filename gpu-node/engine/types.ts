/** The boundary to the native engine (docs/structure.md): few calls, token ids only. native/addon implements it. */

/** Weights and arithmetic; int8 and int4 quantise the linear layers in groups of 32; f16 and fp8 (e4m3, a scale per output) are for CUDA devices. */
export const DTYPES = ['f32', 'bf16', 'f16', 'fp8', 'int8', 'int4'] as const
export type DType = (typeof DTYPES)[number]

/** Keys and values: `auto` is f32 beside f32 weights, else bf16; `fp8` (e4m3, docs/adr/0022) is for CUDA devices. */
export const KV_CACHE_DTYPES = ['auto', 'fp8'] as const
export type KvCacheDType = (typeof KV_CACHE_DTYPES)[number]

export type Device = 'auto' | 'cpu' | 'cuda'

export interface ModelShape {
  vocabSize: number
  hiddenSize: number
  intermediateSize: number
  numLayers: number
  numHeads: number
  numKvHeads: number
  headDim: number
  contextTokens: number
  rmsNormEps: number
  ropeTheta: number
  tieWordEmbeddings: boolean
}

/** One tensor of a checkpoint: where its bytes lie. The engine maps the file. */
export interface TensorEntry {
  name: string
  /** Index into `files`. */
  file: number
  /** Bytes from the start of the file. */
  offset: number
  dtype: 'F32' | 'BF16' | 'F16'
  shape: number[]
}

export interface EngineConfig {
  model: ModelShape
  weights: { files: string[]; tensors: TensorEntry[] }
  /** Ids from the tokenizer, never constants. `eos` ends a branch. */
  tokens: { fork: number; child: number; eos: number[] }
  dtype: DType
  kvCacheDtype: KvCacheDType
  /** `auto`: on a CUDA device where there is one, else on the CPU; `EngineInfo.device` says which and why. */
  device: Device
  /** CUDA devices, by number, that share the model over NCCL; `device` is `cuda` then. Empty: the first one, alone. */
  devices: number[]
  /** OS threads of the CPU backend, 1 to 256. */
  threads: number
  /** KV blocks of 16 tokens in the pool. */
  numBlocks: number
  /** On a CUDA device take as many blocks as its free memory holds; `numBlocks` is for the CPU then. */
  fillDevice: boolean
  /** Token budget of one step: decode rows first, then prefill chunks. */
  maxStepTokens: number
  /** Branches decoding at the same time, over all requests. */
  maxBranches: number
  /** Requests that may wait or run; one more is refused with `queue_full`. */
  maxRequests: number
  /** Keep computed text until its blocks are wanted. */
  prefixCache: boolean
  /** Share of the blocks that admission leaves to those who run, in [0, 1). */
  watermark: number
  /** When the batch is full: `eager` lets a child wait, `capped` bans [Fork]; `serial` always does (core/branch_policy.h). */
  policy: 'eager' | 'capped' | 'serial'
}

/** A branch that another engine began, with its own tokens so far: [Fork] and the forced [Child] included. */
export interface RestoredBranch {
  id: number
  /** -1 for the root. */
  parent: number
  /** Of [Fork] in the parent's path, the prompt included; -1 for the root. */
  forkPosition: number
  tokens: Int32Array
  /** FINISH reason; 0 while it lives. */
  ended: number
}

export interface EngineRequest {
  /** 1 to 2^31-1, not in use. */
  id: number
  prompt: Int32Array
  /** New tokens of all branches together, at least 1. */
  maxTokens: number
  /** Branches of this request alive at once, the root included; 1 is serial. */
  maxBranches: number
  /** Deepest branch; the root has depth 1. 1 is serial. */
  maxDepth: number
  /** 0 is greedy. */
  temperature: number
  topP: number
  /** 0 turns it off. */
  topK: number
  minP: number
  /** 1 turns it off. */
  repetitionPenalty: number
  /** Taken off a logit for each time the branch's answer has the token; 0 turns it off. */
  frequencyPenalty: number
  /** Taken off once if it has it at all; 0 turns it off. */
  presencePenalty: number
  /** Unsigned 32 bits. */
  seed: number
  /** Further ids that end a branch. */
  stopTokens: Int32Array
  /** New tokens of one branch; 0 is no limit of its own. */
  maxBranchTokens: number
  /** Likeliest tokens to report beside the chosen one's, 0 to 20; -1 reports none. */
  logprobs: number
  /** Added to the logits of these tokens: `values[i]` to `tokens[i]`. */
  logitBias: { tokens: Int32Array; values: Float32Array }
  /**
   * In order of id, the root first: the request goes on where another engine left it, with the same texts, numbers and
   * limits. What is restored is not reported again. Empty for a new request.
   */
  branches: RestoredBranch[]
}

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
