import { execFileSync } from 'node:child_process'
import type { DType, ModelShape, TensorEntry } from '../../gpu-node/engine/engine-config.ts'

const TOOL = 'native/build/release/apar_logits'

export interface LogitsJob {
  shape: ModelShape
  weights: { files: string[]; tensors: TensorEntry[] }
  dtype: DType
  path: readonly number[]
}

/**
 * The engine's logits after every token of a path: [path.length][vocabSize], row-major. Runs in the package's
 * folder.
 */
export function engineLogits({ shape, weights, dtype, path }: LogitsJob): Float32Array {
  const { vocabSize, hiddenSize, intermediateSize, numLayers, numHeads, numKvHeads } = shape
  const sizes = [vocabSize, hiddenSize, intermediateSize, numLayers, numHeads, numKvHeads]
  const rest = [shape.headDim, shape.contextTokens, shape.rmsNormEps]
  const { rope, biases } = shape
  const features = [
    ...(biases.qkv ? ['qkv_bias'] : []),
    ...(biases.attentionOutput ? ['attention_output_bias'] : []),
    ...(biases.mlp ? ['mlp_bias'] : []),
    ...(shape.headNorms ? ['head_norms'] : []),
  ]
  const lines = [
    `shape ${[...sizes, ...rest].join(' ')} ${shape.tieWordEmbeddings ? 1 : 0}`,
    `rope ${[rope.scale, ...rope.frequencies].join(' ')}`,
    `layers_without_rope ${shape.layersWithoutRope.join(' ')}`,
    `features ${features.join(' ')}`,
    `dtype ${dtype}`,
    ...weights.files.map((file) => `file ${file}`),
    ...weights.tensors.map(
      ({ name, file, offset, dtype: stored, shape: size }) =>
        `tensor ${name} ${file} ${offset} ${stored} ${size.length} ${size.join(' ')}`,
    ),
    `path ${path.length} ${path.join(' ')}`,
  ]
  const input = `${lines.join('\n')}\n`
  const bytes = execFileSync(TOOL, { input, maxBuffer: 1 << 28 })
  return new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength))
}
