import type { ModelShape, RotaryEmbedding } from '../engine/engine-config.ts'

/** What the first Llama models have of the features in which architectures differ. */
export const PLAIN_LLAMA = {
  layersWithoutRope: [] as number[],
  biases: { qkv: false, attentionOutput: false, mlp: false },
  headNorms: false,
} satisfies Partial<ModelShape>

/** Rotary embeddings without scaling of the first `rotated` (even) elements of each head. */
export function plainRope(theta: number, rotated: number): RotaryEmbedding {
  const frequencies = Array.from({ length: rotated / 2 }, (_, pair) => theta ** ((-2 * pair) / rotated))
  return { theta, frequencies, scale: 1 }
}
