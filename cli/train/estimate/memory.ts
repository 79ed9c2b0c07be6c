import type { ModelShape } from '../../../gpu-node/engine/engine-config.ts'
import { countLora, countParameters } from './parameters.ts'

/** How the processes share the work. */
export type Layout = 'one' | 'ddp' | 'fsdp'

export interface TrainedAs {
  readonly device: 'cpu' | 'cuda'
  /** Rank of LoRA; undefined: every weight. */
  readonly lora: number | undefined
  readonly layout: Layout
  /** GPUs. */
  readonly processes: number
  /** Tokens that are computed at once. */
  readonly packTokens: number
  readonly checkpointActivations: boolean
}

/** Bytes of one process. */
export interface MemoryEstimate {
  readonly weights: number
  readonly gradients: number
  readonly optimizer: number
  readonly activations: number
  readonly total: number
}

const F32 = 4
const BF16 = 2
/** Adam's two moments. */
const ADAM = 2 * F32
/** Of each logit: itself and its gradient; on a GPU it is widened to f32 for all tokens at once. */
const LOGIT_BYTES = { cpu: 2 * BF16, cuda: 2 * BF16 + 2 * F32 }

/**
 * The memory of one process, from the shape alone: weights that are trained are f32 with a bf16 copy for the arithmetic,
 * frozen ones bf16, gradients and moments f32. What the allocator wastes and the libraries take comes on top: `slack`.
 */
export function estimateMemory(shape: ModelShape, how: TrainedAs): MemoryEstimate {
  const { lora, layout, processes } = how
  const counts = countParameters(shape)
  const trained = lora === undefined ? counts.total : countLora(shape, lora)
  const frozen = lora === undefined ? 0 : counts.total
  const shards = layout === 'fsdp' ? processes : 1
  // FSDP2 has whole layers only while it computes them, and fetches the next one meanwhile.
  const whole = Math.max(2 * counts.layer, counts.embedding + counts.head)
  const working = layout === 'fsdp' ? whole * BF16 : lora === undefined ? trained * BF16 : 0
  const weights = (frozen * BF16 + trained * F32) / shards + working
  const gradients = (trained * F32) / shards + (layout === 'fsdp' && lora === undefined ? whole * BF16 : 0)
  // DDP sums gradients in buckets of its own.
  const buckets = layout === 'ddp' ? trained * F32 : 0
  const optimizer = (trained * ADAM) / shards
  const activations = activationBytes(shape, how)
  const parts = { weights, gradients: gradients + buckets, optimizer, activations }
  return { ...parts, total: weights + gradients + buckets + optimizer + activations }
}

function activationBytes(
  shape: ModelShape,
  { device, lora, packTokens, checkpointActivations }: TrainedAs,
): number {
  const perLayer = layerActivations(shape, lora)
  const stream = shape.hiddenSize * (lora === undefined ? F32 : BF16)
  const kept = checkpointActivations ? shape.numLayers * stream + perLayer : shape.numLayers * perLayer
  // Measured: while the backward pass is in a layer, it has about twice what a layer keeps, for gradients and copies.
  return packTokens * (kept + 2 * perLayer + shape.vocabSize * LOGIT_BYTES[device])
}

/** Bytes that a layer keeps of one token until its gradient has been computed. */
export function layerActivations(shape: ModelShape, lora: number | undefined): number {
  const { hiddenSize: hidden, intermediateSize: mlp, numHeads, numKvHeads, headDim } = shape
  const queries = numHeads * headDim
  const keys = numKvHeads * headDim
  // Two norms: their input, the scaled input, and what the matrices take.
  const norms = 2 * hidden * (F32 + F32 + BF16)
  // Rotated queries and keys, values, the result, and its copy for the output matrix.
  const attention = BF16 * (3 * queries + 2 * keys)
  // gate, up, SiLU of gate, their product.
  const products = 4 * BF16 * mlp
  // Each adapted matrix keeps its input widened to the adapter's f32, and the product with its first factor.
  const inputs = 5 * hidden + queries + mlp
  const adapters = lora === undefined ? 0 : F32 * inputs + 7 * lora * F32
  return norms + attention + products + adapters
}
