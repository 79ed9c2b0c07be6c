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
  /** The base judges the text, too: with LoRA. */
  readonly distills: boolean
  /** Of a value of the arithmetic: bf16 or f32. */
  readonly valueBytes: 2 | 4
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
/** Adam's two moments. */
const ADAM = 2 * F32
/** Of a logit that a GPU widens to f32 for all tokens at once: itself and its gradient. */
const WIDE_LOGIT_BYTES = { cpu: 0, cuda: 2 * F32 }
/** Of a teacher's: the same, with its probability and its logarithm. */
const WIDE_TEACHER_BYTES = { cpu: 0, cuda: 3 * F32 }

/**
 * The memory of one process, from the shape alone: weights that are trained are f32, with a copy for arithmetic in
 * bf16; frozen ones are of the arithmetic's type, gradients and moments f32. What the allocator wastes and the libraries take comes on top: `slack`.
 */
export function estimateMemory(shape: ModelShape, how: TrainedAs): MemoryEstimate {
  const { lora, layout, processes, valueBytes } = how
  const copies = valueBytes < F32 ? valueBytes : 0
  const counts = countParameters(shape)
  const trained = lora === undefined ? counts.total : countLora(shape, lora)
  const frozen = lora === undefined ? 0 : counts.total
  const shards = layout === 'fsdp' ? processes : 1
  // FSDP2 has whole layers only while it computes them, and fetches the next one meanwhile.
  const whole = Math.max(2 * counts.layer, counts.embedding + counts.head)
  const working = layout === 'fsdp' ? whole * valueBytes : lora === undefined ? trained * copies : 0
  const weights = (frozen * valueBytes + trained * F32) / shards + working
  const gradients =
    (trained * F32) / shards + (layout === 'fsdp' && lora === undefined ? whole * valueBytes : 0)
  // DDP sums gradients in buckets of its own.
  const buckets = layout === 'ddp' ? trained * F32 : 0
  const optimizer = (trained * ADAM) / shards
  const activations = activationBytes(shape, how)
  const parts = { weights, gradients: gradients + buckets, optimizer, activations }
  return { ...parts, total: weights + gradients + buckets + optimizer + activations }
}

function activationBytes(
  shape: ModelShape,
  { device, lora, packTokens, checkpointActivations, distills, valueBytes }: TrainedAs,
): number {
  const perLayer = layerActivations(shape, lora, valueBytes)
  const stream = shape.hiddenSize * (lora === undefined ? F32 : valueBytes)
  const kept = checkpointActivations ? shape.numLayers * stream + perLayer : shape.numLayers * perLayer
  // Measured: while the backward pass is in a layer, it has about twice what a layer keeps, for gradients and copies.
  const logits = shape.vocabSize * (2 * valueBytes + WIDE_LOGIT_BYTES[device])
  const teacher = distills ? shape.vocabSize * (valueBytes + WIDE_TEACHER_BYTES[device]) : 0
  return packTokens * (kept + 2 * perLayer + logits + teacher)
}

/** Bytes that a layer keeps of one token until its gradient has been computed. */
export function layerActivations(shape: ModelShape, lora: number | undefined, valueBytes: 2 | 4): number {
  const { hiddenSize: hidden, intermediateSize: mlp, numHeads, numKvHeads, headDim } = shape
  const queries = numHeads * headDim
  const keys = numKvHeads * headDim
  // Two norms: their input, the scaled input, and what the matrices take.
  const norms = 2 * hidden * (F32 + F32 + valueBytes)
  // Rotated queries and keys, values, the result, and its copy for the output matrix.
  const attention = valueBytes * (3 * queries + 2 * keys)
  // gate, up, SiLU of gate, their product.
  const products = 4 * valueBytes * mlp
  // Each adapted matrix keeps its input widened to the adapter's f32, and the product with its first factor.
  const inputs = 5 * hidden + queries + mlp
  const adapters = lora === undefined ? 0 : F32 * inputs + 7 * lora * F32
  return norms + attention + products + adapters
}
