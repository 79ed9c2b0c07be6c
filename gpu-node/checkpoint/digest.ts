import { createHash, type Hash } from 'node:crypto'
import type { ModelShape, QuantisedLayer } from '../engine/engine-config.ts'
import type { BranchLimits } from './config/branching.ts'
import type { SamplingDefaults } from './generation-config.ts'
import { plainRope } from './plain-llama.ts'
import { type RegularFile, withRegularFiles } from './regular-file.ts'
import { tensorBytes } from './tensor-blocks.ts'
import type { TokenizerFiles } from './tokenizer-files.ts'
import type { WeightTable } from './weights.ts'

/** What of a checkpoint changes its answers. */
export interface DigestedCheckpoint {
  readonly shape: ModelShape
  readonly tokens: {
    readonly fork: number | undefined
    readonly child: number | undefined
    readonly eos: readonly number[]
  }
  readonly joints: string
  readonly branchLimits: BranchLimits
  readonly sampling: SamplingDefaults
  readonly text: TokenizerFiles
  readonly weights: WeightTable
}

/** Bytes that are read at one place of a tensor. */
const SAMPLE_BYTES = 16 * 1024
/** Samples of all tensors together, but at least MIN_SAMPLES of each: 16 MiB, which a disk reads within a second. */
const SAMPLES = 1024
const MIN_SAMPLES = 2
const DIGEST_CHARS = 16

/** Training may have changed nothing but these tensors' rows of the control tokens. */
const ROW_PER_TOKEN = ['model.embed_tokens.weight', 'lm_head.weight']

/**
 * Identifies what a checkpoint computes: copies agree in whichever folder, however they are sharded, and whenever they
 * were written. Reads samples of each tensor, evenly spread with both ends, not all of it: a checkpoint that was tuned
 * further differs almost everywhere. A single weight that was changed by hand may go unnoticed.
 */
export function checkpointDigest(checkpoint: DigestedCheckpoint): string {
  const { shape, tokens, joints, branchLimits, sampling, text, weights } = checkpoint
  const { fork, child, eos } = tokens
  const hash = createHash('sha256').update(
    JSON.stringify([
      ...[shapeOf(shape), [fork, child, eos], joints, samplingOf(sampling), textOf(text)],
      ...featuresOf(shape),
      ...limitsOf(branchLimits),
    ]),
  )
  const control = [fork, child, ...eos].filter((id) => id !== undefined)
  withRegularFiles(weights.files, (files) => hashWeights(hash, files, weights.tensors, control))
  return hash.digest('hex').slice(0, DIGEST_CHARS)
}

// Fields by name, not whole objects: a later version that reads more of a checkpoint must give the same digest. A new
// field is added only with a value that changes what is computed.

function shapeOf(shape: ModelShape): unknown[] {
  const { vocabSize, hiddenSize, intermediateSize, numLayers, numHeads, numKvHeads, headDim } = shape
  const sizes = [vocabSize, hiddenSize, intermediateSize, numLayers, numHeads, numKvHeads, headDim]
  return [...sizes, shape.contextTokens, shape.rmsNormEps, shape.rope.theta, shape.tieWordEmbeddings]
}

/** What a plain Llama model does not have. */
function* featuresOf({
  rope,
  headDim,
  layersWithoutRope,
  biases,
  headNorms,
}: ModelShape): Generator<unknown> {
  const { theta, frequencies, scale } = rope
  if (String(frequencies) !== String(plainRope(theta, headDim).frequencies))
    yield ['frequencies', frequencies]
  if (scale !== 1) yield ['scale', scale]
  if (layersWithoutRope.length > 0) yield ['layersWithoutRope', layersWithoutRope]
  const { qkv, attentionOutput, mlp } = biases
  if (qkv || attentionOutput || mlp) yield ['biases', qkv, attentionOutput, mlp]
  if (headNorms) yield ['headNorms']
}

function* limitsOf({ maxBranches, maxDepth }: BranchLimits): Generator<unknown> {
  if (maxBranches !== undefined) yield ['maxBranches', maxBranches]
  if (maxDepth !== undefined) yield ['maxDepth', maxDepth]
}

function samplingOf({ temperature, topP, topK, minP, repetitionPenalty, dry }: SamplingDefaults): unknown[] {
  return [
    temperature,
    topP,
    topK,
    minP,
    repetitionPenalty,
    ...(dry.multiplier > 0 ? [Object.values(dry)] : []),
  ]
}

function textOf(files: TokenizerFiles): unknown[] {
  const { tokenizer, chatTemplate, named, rawPrefix, toolFormat, reasoningFormat } = files
  const { added_tokens, normalizer, pre_tokenizer, post_processor, decoder, model } = tokenizer
  const added = added_tokens.map(({ id, content, special, normalized, lstrip, rstrip }) => [
    ...[id, content, special, normalized],
    ...(lstrip || rstrip ? [lstrip, rstrip] : []),
  ])
  const { bos_token, eos_token, unk_token, pad_token } = named
  return [
    [added, normalizer, pre_tokenizer, post_processor, decoder, model],
    [chatTemplate?.source, bos_token, eos_token, unk_token, pad_token, rawPrefix],
    ...(chatTemplate?.afterRawPrefix ? ['after the raw prefix'] : []),
    ...(chatTemplate?.toolUse === undefined ? [] : [`with tools: ${chatTemplate.toolUse}`]),
    ...(toolFormat ? [toolFormat] : []),
    ...(reasoningFormat ? [`reasoning: ${reasoningFormat}`] : []),
  ]
}

function layerOf(layer: QuantisedLayer): unknown[] {
  const { blockOutputs, blockInputs, scales, zeros, groups, zeroOffset } = layer
  return [blockOutputs, blockInputs, scales, zeros, groups, zeroOffset]
}

function hashWeights(
  hash: Hash,
  files: readonly RegularFile[],
  tensors: WeightTable['tensors'],
  controlTokens: readonly number[],
): void {
  const buffer = Buffer.alloc(SAMPLE_BYTES)
  const addBytes = (file: number, begin: number, end: number) => {
    for (let at = begin; at < end; at += SAMPLE_BYTES) {
      const part = buffer.subarray(0, end - at)
      // Less in a file that was cut meanwhile: loading its weights reports that.
      hash.update(part.subarray(0, files[file]?.readAt(part, at)))
    }
  }
  const samples = Math.max(MIN_SAMPLES, Math.floor(SAMPLES / tensors.length))
  const sorted = [...tensors].sort((a, b) => (a.name < b.name ? -1 : 1))
  for (const { name, file, offset, dtype, shape, quantised, lora, replacedRows } of sorted) {
    hash.update(JSON.stringify([name, dtype, shape, ...(quantised ? layerOf(quantised) : [])]))
    if (lora ?? replacedRows) hash.update(JSON.stringify([lora, replacedRows]))
    const bytes = tensorBytes(dtype, shape)
    for (const [begin, end] of spans(bytes, samples)) addBytes(file, offset + begin, offset + end)
    if (!ROW_PER_TOKEN.includes(name)) continue
    const [rows = 1] = shape
    const row = bytes / rows
    const stored = controlTokens.filter((token) => token < rows)
    for (const token of stored) addBytes(file, offset + token * row, offset + (token + 1) * row)
  }
}

/** Places of samples, evenly spread over `bytes`; all of them when they fit. */
function spans(bytes: number, samples: number): [begin: number, end: number][] {
  if (bytes <= samples * SAMPLE_BYTES) return [[0, bytes]]
  return Array.from({ length: samples }, (_, index) => {
    const begin = Math.floor((index * (bytes - SAMPLE_BYTES)) / (samples - 1))
    return [begin, begin + SAMPLE_BYTES]
  })
}
