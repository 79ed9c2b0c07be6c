import type { ModelShape, RotaryEmbedding } from '../engine/engine-config.ts'
import { rotaryEmbedding } from './rope.ts'

/** What the first Llama models have of the features in which architectures differ. */
export const PLAIN_LLAMA = {
  layersWithoutRope: [] as number[],
  biases: { qkv: false, attentionOutput: false, mlp: false },
  headNorms: false,
} satisfies Partial<ModelShape>

/** Rotary embeddings without scaling of the first `rotated` (even) elements of each head. */
export function plainRope(theta: number, rotated: number): RotaryEmbedding {
  return rotaryEmbedding(theta, rotated, { type: 'default' })
}
