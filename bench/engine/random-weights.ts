import { closeSync, openSync, writeFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { llamaTensors } from '../../gpu-node/checkpoint/llama-tensors.ts'
import type { ModelShape } from '../../gpu-node/engine/engine-config.ts'

const BYTES = 2

/** Writes one safetensors file in bf16 with random weights; the same bytes on every machine. */
export function writeRandomSafetensors(path: string, model: ModelShape): void {
  writeTensors(path, [...llamaTensors(model)])
}

/** The same as `count` files of about equal numbers of tensors, with their index. */
export function writeRandomShards(folder: string, model: ModelShape, count: number): void {
  const tensors = [...llamaTensors(model)]
  const each = Math.ceil(tensors.length / count)
  const weight_map: Record<string, string> = {}
  for (let shard = 0; shard < count; shard++) {
    const file = `model-${shard + 1}-of-${count}.safetensors`
    const own = tensors.slice(shard * each, (shard + 1) * each)
    writeTensors(join(folder, file), own)
    for (const [name] of own) weight_map[name] = file
  }
  writeFileSync(join(folder, 'model.safetensors.index.json'), JSON.stringify({ weight_map }))
}

function writeTensors(path: string, tensors: readonly [name: string, shape: number[]][]): void {
  const header: Record<string, unknown> = {}
  let offset = 0
  for (const [name, shape] of tensors) {
    const end = offset + shape.reduce((a, b) => a * b, BYTES)
    header[name] = { dtype: 'BF16', shape, data_offsets: [offset, end] }
    offset = end
  }
  const text = JSON.stringify(header)
  // The format needs data aligned to 8 bytes; 64 is better for the engine's vector loads.
  const padded = Buffer.from(text.padEnd(Math.ceil((text.length + 8) / 64) * 64 - 8))
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(padded.length))
  const file = openSync(path, 'w')
  try {
    writeSync(file, length)
    writeSync(file, padded)
    const next = xorshift(0x9e3779b9)
    for (const [, shape] of tensors) writeTensor(file, shape, next)
  } finally {
    closeSync(file)
  }
}

/**
 * Weights of matrices scale with 1 / sqrt(inputs), those of norms are around 1, so that activations stay in range
 * as in a trained model.
 */
function writeTensor(file: number, shape: readonly number[], next: () => number): void {
  const inputs = shape[1]
  const spread = inputs === undefined ? 0.25 : 1.7 / Math.sqrt(inputs)
  const mean = inputs === undefined ? 1 : 0
  const chunk = new Uint16Array(1 << 20)
  const float = new Float32Array(1)
  const bits = new Uint32Array(float.buffer)
  for (let left = shape.reduce((a, b) => a * b, 1); left > 0; ) {
    const count = Math.min(left, chunk.length)
    for (let i = 0; i < count; i++) {
      float[0] = mean + spread * next()
      chunk[i] = (bits[0] ?? 0) >>> 16
    }
    writeSync(file, new Uint8Array(chunk.buffer, 0, count * BYTES))
    left -= count
  }
}

/** Uniform random numbers in [-1, 1). Source: Marsaglia, Xorshift RNGs, 2003. */
export function xorshift(seed: number): () => number {
  let state = seed
  return () => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return state / 2 ** 31
  }
}
