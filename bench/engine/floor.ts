import { execFileSync } from 'node:child_process'
import type { ModelShape } from '../../gpu-node/engine/engine-config.ts'
import type { CpuDType, EngineCase } from './cases.ts'

const TOOL = 'native/build/release/bench/bench_bandwidth'
const MEASURE_SECONDS = 0.2
/** Much larger than any cache. */
const MOST_BYTES = 256 * 2 ** 20

/** Quantised weights have one f16 scale per 32 weights. */
const BYTES_PER_WEIGHT: Record<CpuDType, number> = { f32: 4, bf16: 2, int8: 34 / 32, int4: 18 / 32 }
const KV_BYTES: Record<CpuDType, number> = { f32: 4, bf16: 2, int8: 2, int4: 2 }

/**
 * Bytes that one step has to read: every weight once (of the embedding only the rows of the input tokens), the
 * keys and values of the shared prompt once, and those of each branch, on average half of what it decodes.
 */
export function stepBytes({ dtype, rows, prompt, each }: EngineCase, shape: ModelShape): number {
  const kvPerToken = 2 * shape.numLayers * shape.numKvHeads * shape.headDim * KV_BYTES[dtype]
  // In prefill, keys and values are written, not read back from memory.
  const read = each === 0 ? 0 : prompt + (rows * each) / 2
  return matrixElements(shape) * BYTES_PER_WEIGHT[dtype] + kvPerToken * read
}

/** Tokens per second if only reading took time. With many rows per step, arithmetic is the limit long before. */
export function floorRate(test: EngineCase, shape: ModelShape, bytesPerSecond: number): number {
  const tokensPerStep = test.each === 0 ? test.prompt : test.rows
  return (tokensPerStep * bytesPerSecond) / stepBytes(test, shape)
}

/** Number of weights in all matrices that a step multiplies with; tied embeddings count as the output layer. */
export function matrixElements(shape: ModelShape): number {
  const { hiddenSize, intermediateSize, numLayers, numHeads, numKvHeads, headDim, vocabSize } = shape
  const attention = 2 * hiddenSize * headDim * (numHeads + numKvHeads)
  return numLayers * (attention + 3 * hiddenSize * intermediateSize) + vocabSize * hiddenSize
}

/**
 * Bandwidth of sequential reads in bytes per second, from a buffer as large as the step's bytes: a small model
 * fits in the cache.
 */
export function measureBandwidth(bytes: number, threads: number): number {
  const mebibytes = Math.ceil(Math.min(bytes, MOST_BYTES) / 2 ** 20)
  const args = [threads, mebibytes, MEASURE_SECONDS].map(String)
  return JSON.parse(execFileSync(TOOL, args, { encoding: 'utf8' })).gb_per_s * 1e9
}
