// What llama.cpp's converter writes for a config.json: metadata, names, and the divisors of Llama 3.1's frequencies.

import { type GgufTensor, type GgufValue, writeGguf } from '../../bench/peer/gguf.ts'
import { ggufName } from '../../bench/peer/llama-gguf.ts'
import { llamaTensors } from '../../gpu-node/checkpoint/llama-tensors.ts'
import type { ModelShape } from '../../gpu-node/engine/engine-config.ts'
import type { Json } from './tiny-checkpoint.ts'

export interface GgufConfig {
  metadata: Record<string, GgufValue>
  tensors: GgufTensor[]
}

/** A model of this shape, whose values are zeros, with the tokens of a tiny SentencePiece vocabulary. */
export function ggufOfConfig(architecture: string, config: Json, shape: ModelShape): GgufConfig {
  const rope = { ...(config.rope_parameters as Json), ...(config.rope_scaling as Json) }
  const kind = rope.rope_type ?? rope.type
  const number = (value: unknown) => ({ f32: Number(value) })
  const count = (value: number) => ({ u32: value })
  const fields: Record<string, GgufValue> = {
    context_length: count(Number(config.max_position_embeddings)),
    embedding_length: count(shape.hiddenSize),
    block_count: count(shape.numLayers),
    feed_forward_length: count(shape.intermediateSize),
    'attention.head_count': count(shape.numHeads),
    'attention.head_count_kv': count(shape.numKvHeads),
    'attention.key_length': count(shape.headDim),
    'attention.value_length': count(shape.headDim),
    'attention.layer_norm_rms_epsilon': number(shape.rmsNormEps),
    'rope.dimension_count': count(2 * shape.rope.frequencies.length),
    'rope.freq_base': number(shape.rope.theta),
  }
  if (kind === 'linear' || kind === 'yarn') {
    fields['rope.scaling.type'] = { string: kind }
    fields['rope.scaling.factor'] = number(rope.factor)
  }
  if (kind === 'yarn') {
    const { original_max_position_embeddings: original, attention_factor: factor } = rope
    fields['rope.scaling.original_context_length'] = count(Number(original))
    if (factor !== undefined) fields['rope.scaling.yarn_attn_factor'] = number(factor)
    for (const beta of ['beta_fast', 'beta_slow'])
      if (rope[beta] !== undefined) fields[`rope.scaling.yarn_${beta}`] = number(rope[beta])
  }
  const tensors = [...llamaTensors(shape)].map(([name, size]): GgufTensor => {
    const bytes = size.reduce((product, each) => product * each, 4)
    return { name: ggufName(name), shape: size, type: 'F32', data: () => new Uint8Array(bytes) }
  })
  if (kind === 'llama3') {
    const divisors = Float32Array.from(llama3Divisors(shape, rope as Record<string, number>))
    tensors.push(f32Tensor('rope_freqs.weight', divisors))
  }
  const entries = Object.entries(fields).map(([field, value]) => [`${architecture}.${field}`, value] as const)
  return {
    metadata: {
      'general.architecture': { string: architecture },
      ...Object.fromEntries(entries),
      ...vocabulary(shape.vocabSize),
    },
    tensors,
  }
}

export function f32Tensor(name: string, values: Float32Array): GgufTensor {
  return { name, shape: [values.length], type: 'F32', data: () => new Uint8Array(values.buffer) }
}

export function writeGgufConfig(path: string, { metadata, tensors }: GgufConfig): void {
  writeGguf(path, metadata, tensors)
}

function* llama3Divisors({ headDim, rope }: ModelShape, scaling: Record<string, number>): Generator<number> {
  const { factor = 1, low_freq_factor: low = 1, high_freq_factor: high = 1 } = scaling
  const { original_max_position_embeddings: original = 1 } = scaling
  for (let element = 0; element < headDim; element += 2) {
    const wavelength = 2 * Math.PI * rope.theta ** (element / headDim)
    const kept = (original / wavelength - low) / (high - low)
    if (wavelength < original / high) yield 1
    else if (wavelength > original / low) yield factor
    else yield 1 / ((1 - kept) / factor + kept)
  }
}

function vocabulary(size: number): Record<string, GgufValue> {
  const ids = Array.from({ length: size }, (_, id) => id)
  return {
    'tokenizer.ggml.model': { string: 'llama' },
    'tokenizer.ggml.tokens': { strings: ids.map((id) => (id === 2 ? '</s>' : `t${id}`)) },
    'tokenizer.ggml.scores': { f32s: ids.map((id) => -id) },
    'tokenizer.ggml.token_type': { i32s: ids.map((id) => (id === 2 ? 3 : 1)) },
    'tokenizer.ggml.eos_token_id': { u32: 2 },
  }
}
