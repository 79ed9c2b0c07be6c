import { execFileSync } from 'node:child_process'
import type { ModelShape } from '../../gpu-node/engine/engine-config.ts'
import type { CpuDType, EngineCase } from './cases.ts'

const TOOL = 'native/build/release/bench/bench_bandwidth'
const MEASURE_SECONDS = 0.2
/** Much larger than any cache. */
const MOST_BYTES = 256 * 2 ** 20

/** Quantised weights carry one f16 scale for 32 of them. */
const BYTES_PER_WEIGHT: Record<CpuDType, number> = { f32: 4, bf16: 2, int8: 34 / 32, int4: 18 / 32 }
const KV_BYTES: Record<CpuDType, number> = { f32: 4, bf16: 2, int8: 2, int4: 2 }

/**
 * Bytes that one step has to read: every weight once (of the embedding only the rows asked for), the shared prompt's keys and
 * values once, and half of what each branch will have decoded, which is what it has on average.
 */
export function stepBytes({ dtype, rows, prompt, each }: EngineCase, shape: ModelShape): number {
  const kvPerToken = 2 * shape.numLayers * shape.numKvHeads * shape.headDim * KV_BYTES[dtype]
  // A prompt's own keys and values are written, not read back from memory.
  const read = each === 0 ? 0 : prompt + (rows * each) / 2
  return matrixElements(shape) * BYTES_PER_WEIGHT[dtype] + kvPerToken * read
}

/** Tokens per second if nothing but reading took time. Arithmetic is the limit long before that when many rows share a step. */
export function floorRate(test: EngineCase, shape: ModelShape, bytesPerSecond: number): number {
  const tokensPerStep = test.each === 0 ? test.prompt : test.rows
  return (tokensPerStep * bytesPerSecond) / stepBytes(test, shape)
}

/** Weights of all matrices that a step multiplies with; tied embeddings are the output layer. */
export function matrixElements(shape: ModelShape): number {
  const { hiddenSize, intermediateSize, numLayers, numHeads, numKvHeads, headDim, vocabSize } = shape
  const attention = 2 * hiddenSize * headDim * (numHeads + numKvHeads)
  return numLayers * (attention + 3 * hiddenSize * intermediateSize) + vocabSize * hiddenSize
}

/** Bytes per second of plain reading, from a buffer as large as the step's bytes: a small model lies in the cache. */
export function measureBandwidth(bytes: number, threads: number): number {
  const mebibytes = Math.ceil(Math.min(bytes, MOST_BYTES) / 2 ** 20)
  const args = [threads, mebibytes, MEASURE_SECONDS].map(String)
  return JSON.parse(execFileSync(TOOL, args, { encoding: 'utf8' })).gb_per_s * 1e9
}
