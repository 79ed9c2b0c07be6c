import { execFileSync } from 'node:child_process'
import type { Device, DType, ModelShape, TensorEntry } from '../../gpu-node/engine/engine-config.ts'

const TOOL = 'native/build/release/apar_logits'

export interface LogitsJob {
  shape: ModelShape
  weights: { files: string[]; tensors: TensorEntry[] }
  dtype: DType
  path: readonly number[]
  /** Continuations of the path. */
  branches?: readonly (readonly number[])[]
  /** Default: the CPU. */
  device?: Device
  /** The most rows of a step; default: the whole path, then all branches at once. */
  rows?: number
}

/**
 * The engine's logits after every token of a path, then of each branch: [tokens][vocabSize], row-major. Runs in the
 * package's folder.
 */
export function engineLogits(job: LogitsJob): Float32Array {
  const { shape, weights, dtype, path, branches = [] } = job
  const { vocabSize, hiddenSize, intermediateSize, numLayers, numHeads, numKvHeads } = shape
  const sizes = [vocabSize, hiddenSize, intermediateSize, numLayers, numHeads, numKvHeads]
  const rest = [shape.headDim, shape.contextTokens, shape.rmsNormEps]
  const { rope, biases: has } = shape
  const features = [
    ...(has.qkv ? ['qkv_bias'] : []),
    ...(has.attentionOutput ? ['attention_output_bias'] : []),
    ...(has.mlp ? ['mlp_bias'] : []),
    ...(shape.headNorms ? ['head_norms'] : []),
  ]
  const lines = [
    `shape ${[...sizes, ...rest].join(' ')} ${shape.tieWordEmbeddings ? 1 : 0}`,
    `rope ${[rope.scale, ...rope.frequencies].join(' ')}`,
    `layers_without_rope ${shape.layersWithoutRope.join(' ')}`,
    `features ${features.join(' ')}`,
    `dtype ${dtype}`,
    `device ${job.device ?? 'cpu'}`,
    ...weights.files.map((file) => `file ${file}`),
    ...weights.tensors.map(tensorLine),
    `path ${path.length} ${path.join(' ')}`,
    ...branches.map((tokens) => `branch ${tokens.length} ${tokens.join(' ')}`),
    ...(job.rows === undefined ? [] : [`rows ${job.rows}`]),
  ]
  const input = `${lines.join('\n')}\n`
  const bytes = execFileSync(TOOL, { input, maxBuffer: 1 << 28 })
  return new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength))
}

function tensorLine(tensor: TensorEntry): string {
  const { name, file, offset, dtype, shape, interleavedHeads } = tensor
  if (tensor.lora ?? tensor.replacedRows ?? tensor.quantised)
    throw new Error(`${name}: a job has no words for layers of codes or adapters`)
  const heads = interleavedHeads === undefined ? '' : ` ${interleavedHeads}`
  return `tensor ${name} ${file} ${offset} ${dtype} ${shape.length} ${shape.join(' ')}${heads}`
}
