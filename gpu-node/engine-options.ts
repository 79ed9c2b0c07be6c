import type { Speculation } from '../shared/protocol/speculation.ts'
import type { Checkpoint } from './checkpoint/checkpoint.ts'
import type { MedusaHeads } from './checkpoint/medusa/medusa-heads.ts'
import { PLAIN } from './checkpoint/plain-tensor.ts'
import type { WeightTable } from './checkpoint/weights.ts'
import { physicalCores } from './engine/cpu-count.ts'
import type {
  Device,
  DType,
  EngineConfig,
  KvCacheDType,
  Policy,
  TensorEntry,
} from './engine/engine-config.ts'
import { MAX_BLOCKS, minimumBlocks, usefulBlocks } from './engine/memory-plan.ts'
import { StartupError } from './startup-error.ts'

/** Inputs of a group of int4-g128. */
const LONG_GROUP = 128
const LAYER_MATRIX = /\.layers\..*_proj\.weight$/

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
  /**
   * Data type of weights and arithmetic. Default: f32 for a checkpoint in F32, int8 and int4 for Q8_0 and Q4_0 without
   * an adapter, on CUDA devices int4-g128 for AWQ and GPTQ that it holds exactly, else bf16. Where `device` is `auto`,
   * `withDefaultDType` finds out whether there is a CUDA device.
   */
  dtype?: DType | undefined
  /**
   * Data type of the KV cache. Default `auto`. `fp8` halves its size and needs a CUDA device:
   * `engine_unavailable` without one.
   */
  kvCacheDtype?: KvCacheDType | undefined
  /**
   * KV blocks of 16 tokens. Default: as many as `maxBranches` full contexts need, or as the free memory holds if that is
   * less.
   */
  numBlocks?: number | undefined
  /** Size of the KV cache in bytes, instead of `numBlocks`. */
  kvCacheBytes?: number | undefined
  /**
   * Share of the free memory, of the host or of the CUDA device, that weights, workspace and KV cache may take together,
   * in (0, 1]. Default 0.9; on the host at least 256 MiB stay free.
   */
  memoryFraction?: number | undefined
  /** Tokens in one forward pass, at least maxBranches. Default 2,048 on a CUDA device, else 512. */
  maxStepTokens?: number | undefined
  /** Branches that decode at the same time, over all requests. Default 64. */
  maxBranches?: number | undefined
  /** Waiting and running requests together. Default 256. */
  maxRequests?: number | undefined
  /** Prefix cache: keep computed KV blocks for later requests with the same prefix. Default true. */
  prefixCache?: boolean | undefined
  /** Share of the KV blocks that admission reserves for running branches, in [0, 1). Default 0.01. */
  watermark?: number | undefined
  /** When a branch may fork (native/core/branch_policy.h). Default `eager`. */
  policy?: Policy | undefined
  /** Of the policy `deadline`, which needs it: the most that a token should take, in ms. */
  tokenDeadlineMs?: number | undefined
  /** Of the policy `deadline`: the most that a request should wait for its first token, in ms. Default none. */
  firstTokenDeadlineMs?: number | undefined
  /** What requests may draft tokens with (speculative decoding); `off` keeps them all from it. Default `auto`. */
  speculation?: Speculation | undefined
}

/** @throws StartupError `invalid_option` when there are too few KV blocks for any useful request. */
export function toEngineConfig(checkpoint: Checkpoint, options: EngineOptions): EngineConfig {
  const { shape, weights, tokens } = checkpoint
  const dtype = options.dtype ?? defaultDType(weights, isOnCuda(options))
  const { numBlocks, kvCacheBytes, maxBranches = 64 } = options
  if (numBlocks !== undefined && kvCacheBytes !== undefined) {
    throw new StartupError('invalid_option', 'the KV cache has a size in blocks and one in bytes: give one')
  }
  const { policy = 'eager', tokenDeadlineMs, firstTokenDeadlineMs } = options
  if ((policy === 'deadline') !== (tokenDeadlineMs !== undefined)) {
    throw new StartupError('invalid_option', 'the policy deadline and a token deadline need each other')
  }
  if (policy !== 'deadline' && firstTokenDeadlineMs !== undefined) {
    throw new StartupError('invalid_option', 'a deadline of the first token needs the policy deadline')
  }
  const forks = tokens.fork !== undefined
  const least = minimumBlocks(shape.contextTokens, forks)
  if (numBlocks !== undefined && numBlocks < least) {
    throw new StartupError('invalid_option', `${numBlocks} KV blocks are too few: take ${least} or more`)
  }
  const most = kvCacheBytes === undefined ? usefulBlocks(shape.contextTokens, forks, maxBranches) : MAX_BLOCKS
  return {
    model: shape,
    ...(checkpoint.medusa && { medusa: checkpoint.medusa.shape }),
    weights: withMedusa(weights, checkpoint.medusa),
    tokens: { fork: tokens.fork ?? -1, child: tokens.child ?? -1, eos: tokens.eos },
    dtype,
    kvCacheDtype: options.kvCacheDtype ?? 'auto',
    device: options.device ?? (options.devices ? 'cuda' : 'auto'),
    devices: [...(options.devices ?? [])],
    threads: options.threads ?? Math.min(256, physicalCores()),
    numBlocks: numBlocks ?? most,
    minBlocks: numBlocks ?? least,
    kvCacheBytes: kvCacheBytes ?? 0,
    memoryFraction: options.memoryFraction ?? 0,
    reservedBytes: 0,
    maxStepTokens: options.maxStepTokens ?? 0,
    maxBranches,
    maxRequests: options.maxRequests ?? 256,
    prefixCache: options.prefixCache ?? true,
    watermark: options.watermark ?? 0.01,
    policy,
    tokenDeadlineMs: tokenDeadlineMs ?? 0,
    firstTokenDeadlineMs: firstTokenDeadlineMs ?? 0,
    speculation: options.speculation ?? 'auto',
  }
}

/** One table for the engine. */
function withMedusa(weights: WeightTable, heads: MedusaHeads | undefined): WeightTable {
  if (!heads) return weights
  const { files, tensors } = heads.weights
  const own = tensors.map((tensor) => ({
    ...tensor,
    name: `medusa.${tensor.name}`,
    file: weights.files.length + tensor.file,
  }))
  return { files: [...weights.files, ...files], tensors: [...weights.tensors, ...own] }
}

/** Whether these options name a CUDA device; `auto` may still find one. */
export function isOnCuda({ device, devices }: EngineOptions): boolean {
  return device === 'cuda' || devices !== undefined
}

/**
 * int8 and int4 hold just what a GGUF file in Q8_0 or Q4_0 holds, int4-g128 what most AWQ and GPTQ checkpoints hold, f32
 * what a file in F32 holds; everything else is computed in bf16.
 */
export function defaultDType(weights: WeightTable, onCuda: boolean): DType {
  const exact = exactDType(weights, onCuda)
  return isQuantised(exact) && adaptsLayers(weights) ? 'bf16' : exact
}

/** Why the default data type is not the one that the base would have without its adapter; undefined if it is. */
export function dtypeNote(
  { weights }: Pick<Checkpoint, 'weights'>,
  options: EngineOptions,
): string | undefined {
  const exact = exactDType(weights, isOnCuda(options))
  if (options.dtype !== undefined || !isQuantised(exact) || !adaptsLayers(weights)) return undefined
  return `the base's ${exact} weights do not hold those of the adapter exactly: computing in bf16 (--dtype ${exact} rounds them again)`
}

const CODES: Partial<Record<TensorEntry['dtype'], string>> = {
  F8_E4M3: 'FP8',
  AWQ_4: 'AWQ (4 bits)',
  GPTQ_4: 'GPTQ (4 bits)',
  GPTQ_8: 'GPTQ (8 bits)',
}

/** What becomes of layers that are stored as codes; undefined when they are computed as they are stored. */
export function storageNote(weights: WeightTable, dtype: DType): string | undefined {
  const isKept = keptIn(weights, dtype)
  const changed = layersOf(weights).filter((layer) => !isPlain(layer) && !isKept(layer))
  if (changed.length === 0) return undefined
  const formats = [...new Set(changed.map((layer) => CODES[layer.dtype] ?? layer.dtype))].sort()
  const becomes = ['f32', 'bf16', 'f16'].includes(dtype)
    ? `widened to ${dtype}`
    : `rounded again, to ${dtype}`
  const exact = exactDType(weights, true)
  const remedy =
    exact === 'int4-g128' && !adaptsLayers(weights) ? `; --dtype ${exact} keeps them, on CUDA devices` : ''
  return `layers are stored in ${formats.join(', ')}: their weights are ${becomes}${remedy}`
}

function layersOf({ tensors }: WeightTable): TensorEntry[] {
  return tensors.filter(({ name }) => LAYER_MATRIX.test(name))
}

function isPlain({ dtype }: TensorEntry): boolean {
  return PLAIN.some((plain) => plain === dtype)
}

/** Whether a layer's own codes and scales are kept. */
function keptIn(weights: WeightTable, dtype: DType): (layer: TensorEntry) => boolean {
  const parts = new Map(weights.tensors.map((tensor) => [tensor.name, tensor.dtype]))
  return ({ dtype: stored, shape: [, inputs = 0], quantised }) => {
    if (stored === 'Q8_0') return dtype === 'int8'
    if (stored === 'Q4_0') return dtype === 'int4'
    if (!quantised) return false
    const { blockInputs, scales, groups } = quantised
    // The scales are those of whole outputs, as fp8 has them.
    if (stored === 'F8_E4M3') return dtype === 'fp8' && blockInputs >= inputs
    if (stored !== 'AWQ_4' && stored !== 'GPTQ_4') return false
    // Whole groups of 128 neighbours share a scale (native/model/quantised_layer.h).
    const longGroups = !groups && (blockInputs % LONG_GROUP === 0 || blockInputs >= inputs)
    return dtype === 'int4-g128' && longGroups && parts.get(scales) === 'F16'
  }
}

function exactDType(weights: WeightTable, onCuda: boolean): DType {
  const layers = layersOf(weights)
  const stored = new Set(layers.map(({ dtype }) => dtype))
  const [only = 'BF16'] = stored
  if (stored.has('F32')) return 'f32'
  if (onCuda && layers.length > 0 && layers.every(keptIn(weights, 'int4-g128'))) return 'int4-g128'
  if (stored.size > 1) return 'bf16'
  return only === 'Q8_0' ? 'int8' : only === 'Q4_0' ? 'int4' : 'bf16'
}

function isQuantised(dtype: DType): boolean {
  return dtype === 'int8' || dtype === 'int4' || dtype === 'int4-g128'
}

function adaptsLayers({ tensors }: WeightTable): boolean {
  return tensors.some(({ name, lora }) => lora && LAYER_MATRIX.test(name))
}
