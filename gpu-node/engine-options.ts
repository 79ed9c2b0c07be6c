import type { Checkpoint } from './checkpoint/checkpoint.ts'
import { physicalCores } from './engine/cpu-count.ts'
import type { Device, DType, EngineConfig, KvCacheDType } from './engine/engine-config.ts'
import { StartupError } from './startup-error.ts'

const BLOCK_TOKENS = 16
/** For the KV cache of sequences that fill the context, when nobody says how much memory to take. */
const DEFAULT_SEQUENCES = 64
const DEFAULT_MAX_KV_BYTES = 2 ** 30

/** How to run a checkpoint. Everything is optional. */
export interface EngineOptions {
  /** Where the model runs. Default `auto`: on a CUDA device where there is one. */
  device?: Device | undefined
  /**
   * CUDA devices, by number, that share the model (tensor parallelism, docs/adr/0011); needs NCCL, and heads and inner size
   * that divide by their number. Default: one device has it all.
   */
  devices?: readonly number[] | undefined
  /** OS threads, 1 to 256. Default: the physical cores. */
  threads?: number | undefined
  /** Weights and arithmetic. Default: bf16 for a checkpoint in 16 bits, else f32. */
  dtype?: DType | undefined
  /** Keys and values. Default `auto`; `fp8` halves them, on CUDA devices only: `engine_unavailable` elsewhere. */
  kvCacheDtype?: KvCacheDType | undefined
  /** KV blocks of 16 tokens. Default: 64 sequences that fill the context, but at most 1 GiB; on a CUDA device what is free. */
  numBlocks?: number | undefined
  /** Tokens in one forward pass, at least maxBranches. Default 512. */
  maxStepTokens?: number | undefined
  /** Branches decoding at the same time, over all requests. Default 64. */
  maxBranches?: number | undefined
  /** Requests that may wait or run. Default 256. */
  maxRequests?: number | undefined
  /** Keep computed text for later requests with the same beginning. Default true. */
  prefixCache?: boolean | undefined
  /** Share of the KV blocks that admission leaves to those who run, in [0, 1). Default 0.01. */
  watermark?: number | undefined
  /** What becomes of a fork when the batch is full (native/core/branch_policy.h). Default `eager`. */
  policy?: EngineConfig['policy'] | undefined
}

/** @throws StartupError `invalid_option` when the cache could not hold one sequence. */
export function toEngineConfig(checkpoint: Checkpoint, options: EngineOptions): EngineConfig {
  const { shape, weights, tokens } = checkpoint
  const in16Bits = weights.tensors.every(({ dtype }) => dtype !== 'F32')
  const dtype = options.dtype ?? (in16Bits ? 'bf16' : 'f32')
  const numBlocks = options.numBlocks ?? defaultBlocks(checkpoint, dtype)
  const needed = Math.ceil(shape.contextTokens / BLOCK_TOKENS)
  if (numBlocks < needed) {
    const message = `${numBlocks} KV blocks cannot hold a sequence of ${shape.contextTokens} tokens: take ${needed} or more`
    throw new StartupError('invalid_option', message)
  }
  return {
    model: shape,
    weights,
    tokens: { fork: tokens.fork ?? -1, child: tokens.child ?? -1, eos: tokens.eos },
    dtype,
    kvCacheDtype: options.kvCacheDtype ?? 'auto',
    device: options.device ?? (options.devices ? 'cuda' : 'auto'),
    devices: [...(options.devices ?? [])],
    threads: options.threads ?? Math.min(256, physicalCores()),
    numBlocks,
    fillDevice: options.numBlocks === undefined,
    maxStepTokens: options.maxStepTokens ?? 512,
    maxBranches: options.maxBranches ?? 64,
    maxRequests: options.maxRequests ?? 256,
    prefixCache: options.prefixCache ?? true,
    watermark: options.watermark ?? 0.01,
    policy: options.policy ?? 'eager',
  }
}

function defaultBlocks({ shape }: Checkpoint, dtype: DType): number {
  const bytesPerElement = dtype === 'f32' ? 4 : 2
  const bytesPerToken = 2 * shape.numLayers * shape.numKvHeads * shape.headDim * bytesPerElement
  // One more per sequence: a fork may leave a block half empty.
  const perSequence = Math.ceil(shape.contextTokens / BLOCK_TOKENS) + 1
  const affordable = Math.floor(DEFAULT_MAX_KV_BYTES / (bytesPerToken * BLOCK_TOKENS))
  return Math.max(2 * perSequence, Math.min(DEFAULT_SEQUENCES * perSequence, affordable))
}
