import { existsSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { readConfig } from '../../../gpu-node/checkpoint/config.ts'
import { readGguf } from '../../../gpu-node/checkpoint/gguf/gguf-file.ts'
import { llamaShape } from '../../../gpu-node/checkpoint/gguf/llama-config.ts'
import type { ModelShape } from '../../../gpu-node/engine/engine-config.ts'

/** How many weights a model has, where. */
export interface ParameterCounts {
  /** Each once, though a tied matrix is used twice. */
  readonly total: number
  /** Of one decoder layer. */
  readonly layer: number
  /** The embedding, which is the output matrix too where they are tied. */
  readonly embedding: number
  /** The output matrix, if it is another one. */
  readonly head: number
  /** Of the matrices that each token is multiplied with: all layers and the output matrix. */
  readonly products: number
}

/** The shape of a model: from config.json alone (a folder with it, or the file itself), or from the head of a GGUF file. */
export function shapeOf(path: string): ModelShape {
  if (basename(path) === 'config.json') return readConfig(dirname(path)).shape
  if (existsSync(join(path, 'config.json')) || !path.endsWith('.gguf')) return readConfig(path).shape
  return llamaShape(readGguf(path)).shape
}

export function countParameters(shape: ModelShape): ParameterCounts {
  const { hiddenSize, intermediateSize, numLayers, headDim, biases, vocabSize } = shape
  const matrices = sum(linearLayers(shape).map(({ input, output }) => input * output))
  const queries = shape.numHeads * headDim
  const keys = shape.numKvHeads * headDim
  const vectors =
    2 * hiddenSize +
    (shape.headNorms ? 2 * headDim : 0) +
    (biases.qkv ? queries + 2 * keys : 0) +
    (biases.attentionOutput ? hiddenSize : 0) +
    (biases.mlp ? 2 * intermediateSize + hiddenSize : 0)
  const layer = matrices + vectors
  const embedding = vocabSize * hiddenSize
  const head = shape.tieWordEmbeddings ? 0 : embedding
  return {
    total: numLayers * layer + embedding + head + hiddenSize,
    layer,
    embedding,
    head,
    products: numLayers * matrices + embedding,
  }
}

/** Of LoRA of rank `rank` on all linear layers, and the rows of the two tokens. */
export function countLora(shape: ModelShape, rank: number): number {
  const perLayer = sum(linearLayers(shape).map(({ input, output }) => rank * (input + output)))
  const rows = 2 * shape.hiddenSize * (shape.tieWordEmbeddings ? 1 : 2)
  return shape.numLayers * perLayer + rows
}

/** The matrices of one layer: q, k, v, the output of attention, gate, up and down. */
export function linearLayers(shape: ModelShape): { input: number; output: number }[] {
  const { hiddenSize: hidden, intermediateSize: mlp, headDim } = shape
  const queries = shape.numHeads * headDim
  const keys = shape.numKvHeads * headDim
  return [
    { input: hidden, output: queries },
    { input: hidden, output: keys },
    { input: hidden, output: keys },
    { input: queries, output: hidden },
    { input: hidden, output: mlp },
    { input: hidden, output: mlp },
    { input: mlp, output: hidden },
  ]
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0)
}
