import { closeSync, existsSync, mkdirSync, openSync, renameSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { ModelShape, TensorEntry } from '../../gpu-node/engine/types.ts'

/** Llama shapes that others publish figures for. */
export const SHAPES: Record<string, ModelShape> = {
  '15M': shape({ hiddenSize: 288, intermediateSize: 768, numLayers: 6, numHeads: 6, numKvHeads: 6 }),
  '110M': shape({ hiddenSize: 768, intermediateSize: 2048, numLayers: 12, numHeads: 12, numKvHeads: 12 }),
  '1.1B': shape({ hiddenSize: 2048, intermediateSize: 5632, numLayers: 22, numHeads: 32, numKvHeads: 4 }),
}

function shape(
  sizes: Pick<ModelShape, 'hiddenSize' | 'intermediateSize' | 'numLayers' | 'numHeads' | 'numKvHeads'>,
): ModelShape {
  return {
    ...sizes,
    vocabSize: 32_000,
    headDim: sizes.hiddenSize / sizes.numHeads,
    contextTokens: 4096,
    rmsNormEps: 1e-5,
    ropeTheta: 10_000,
    tieWordEmbeddings: sizes.hiddenSize < 2048,
  }
}

export interface RandomLlama {
  shape: ModelShape
  weights: { files: string[]; tensors: TensorEntry[] }
  /** Bytes of all weights, as stored. */
  bytes: number
}

/** A bf16 checkpoint of random weights with this shape, written once per machine into the temporary folder. */
export function randomLlama(name: string, model: ModelShape): RandomLlama {
  const folder = join(tmpdir(), 'apar-bench')
  const file = join(folder, `random-${name}-bf16.bin`)
  const tensors: TensorEntry[] = []
  let bytes = 0
  for (const [tensor, size] of tensorSizes(model)) {
    tensors.push({ name: tensor, file: 0, offset: bytes, dtype: 'BF16', shape: size })
    bytes += size.reduce((a, b) => a * b, 2)
  }
  if (!existsSync(file)) {
    mkdirSync(folder, { recursive: true })
    // Another run must never find half a file.
    const partial = `${file}.${process.pid}`
    writeWeights(partial, tensors)
    renameSync(partial, file)
  }
  return { shape: model, weights: { files: [file], tensors }, bytes }
}

function* tensorSizes(model: ModelShape): Generator<[string, number[]]> {
  const { hiddenSize: hidden, intermediateSize: inner, vocabSize } = model
  const kv = model.numKvHeads * model.headDim
  yield ['model.embed_tokens.weight', [vocabSize, hidden]]
  for (let layer = 0; layer < model.numLayers; layer++) {
    const at = (name: string) => `model.layers.${layer}.${name}.weight`
    yield [at('input_layernorm'), [hidden]]
    yield [at('self_attn.q_proj'), [hidden, hidden]]
    yield [at('self_attn.k_proj'), [kv, hidden]]
    yield [at('self_attn.v_proj'), [kv, hidden]]
    yield [at('self_attn.o_proj'), [hidden, hidden]]
    yield [at('post_attention_layernorm'), [hidden]]
    yield [at('mlp.gate_proj'), [inner, hidden]]
    yield [at('mlp.up_proj'), [inner, hidden]]
    yield [at('mlp.down_proj'), [hidden, inner]]
  }
  yield ['model.norm.weight', [hidden]]
  if (!model.tieWordEmbeddings) yield ['lm_head.weight', [vocabSize, hidden]]
}

/** Matrices spread by 1 / sqrt(inputs), norms around 1: activations stay in range, as in a trained model. */
function writeWeights(path: string, tensors: readonly TensorEntry[]): void {
  const file = openSync(path, 'w')
  let state = 0x9e3779b9
  const chunk = new Uint16Array(1 << 20)
  const float = new Float32Array(1)
  const bits = new Uint32Array(float.buffer)
  for (const { shape: size } of tensors) {
    const inputs = size[1]
    const spread = inputs === undefined ? 0.25 : 1.7 / Math.sqrt(inputs)
    const mean = inputs === undefined ? 1 : 0
    let left = size.reduce((a, b) => a * b, 1)
    while (left > 0) {
      const count = Math.min(left, chunk.length)
      for (let i = 0; i < count; i++) {
        state ^= state << 13
        state ^= state >>> 17
        state ^= state << 5
        float[0] = mean + spread * (state / 2 ** 31)
        chunk[i] = (bits[0] ?? 0) >>> 16
      }
      writeSync(file, new Uint8Array(chunk.buffer, 0, count * 2))
      left -= count
    }
  }
  closeSync(file)
}
