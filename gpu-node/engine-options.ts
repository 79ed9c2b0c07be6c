import type { Checkpoint } from './checkpoint/checkpoint.ts'
import { physicalCores } from './engine/cpu-count.ts'
import type { Device, DType, EngineConfig, KvCacheDType, TokenTable } from './engine/engine-config.ts'
import { StartupError } from './startup-error.ts'

const BLOCK_TOKENS = 16
/** Default size of the KV cache, as a number of full-context sequences. */
const DEFAULT_SEQUENCES = 64
const DEFAULT_MAX_KV_BYTES = 2 ** 30

/** How to run a checkpoint. All fields are optional. */
export interface EngineOptions {
  /** Where the model runs. Default `auto`: on a CUDA device if there is one. */
  device?: Device | undefined
  /**
   * CUDA device numbers for tensor parallelism (docs/adr/0011). Needs NCCL, and heads and intermediate size
   * divisible by the number of devices. Default: one device.
   */
  devices?: readonly number[] | undefined
  /** OS threads, 1 to 256. Default: the number of physical cores. */
  threads?: number | undefined
  /** Data type of weights and arithmetic. Default: bf16 for a 16-bit checkpoint, otherwise f32. */
  dtype?: DType | undefined
  /**
   * Data type of the KV cache. Default `auto`. `fp8` halves its size and needs a CUDA device:
   * `engine_unavailable` without one.
   */
  kvCacheDtype?: KvCacheDType | undefined
  /** KV blocks of 16 tokens. Default: 64 full-context sequences, at most 1 GiB; on a CUDA device all free memory. */
  numBlocks?: number | undefined
  /** Tokens in one forward pass, at least maxBranches. Default 512. */
  maxStepTokens?: number | undefined
  /** Branches that decode at the same time, over all requests. Default 64. */
  maxBranches?: number | undefined
  /** Waiting and running requests together. Default 256. */
  maxRequests?: number | undefined
  /** Prefix cache: keep computed KV blocks for later requests with the same prefix. Default true. */
  prefixCache?: boolean | undefined
  /** Share of the KV blocks that admission reserves for running branches, in [0, 1). Default 0.01. */
  watermark?: number | undefined
  /** What happens to a fork when the batch is full (native/core/branch_policy.h). Default `eager`. */
  policy?: EngineConfig['policy'] | undefined
}

/** For an engine without the tokenizer's text, which takes no stop strings. */
export const NO_TEXT: TokenTable = {
  bytes: new Uint8Array(),
  offsets: new Int32Array(),
  dropsLeadingSpace: false,
  mendsJoints: false,
}

/** @throws StartupError `invalid_option` when the KV cache cannot hold one full-context sequence. */
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
    text: NO_TEXT,
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
  // One extra block per sequence: a fork may leave a block partly filled.
  const perSequence = Math.ceil(shape.contextTokens / BLOCK_TOKENS) + 1
  const affordable = Math.floor(DEFAULT_MAX_KV_BYTES / (bytesPerToken * BLOCK_TOKENS))
  return Math.max(2 * perSequence, Math.min(DEFAULT_SEQUENCES * perSequence, affordable))
}
