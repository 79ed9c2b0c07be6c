import { z } from 'zod'
import type { ModelShape } from '../../engine/engine-config.ts'
import { StartupError } from '../../startup-error.ts'
import { PLAIN_LLAMA, plainRope } from '../plain-llama.ts'
import type { GgufFile } from './gguf-file.ts'
import { parseMetadata } from './metadata.ts'

const size = z
  .int()
  .min(1)
  .max(2 ** 31 - 1)
const layers = size.max(4096)

const Metadata = z.looseObject({
  'general.architecture': z.string(),
  'llama.block_count': layers,
  'llama.context_length': size,
  'llama.embedding_length': size,
  'llama.feed_forward_length': size,
  'llama.attention.head_count': size,
  'llama.attention.head_count_kv': size.optional(),
  'llama.attention.key_length': size.optional(),
  'llama.attention.value_length': size.optional(),
  'llama.attention.layer_norm_rms_epsilon': z.number().positive(),
  'llama.rope.dimension_count': size.optional(),
  'llama.rope.freq_base': z.number().positive().default(10_000),
  'llama.rope.scaling.type': z.string().default('none'),
  // Both mean linear scaling, also without a type.
  'llama.rope.scaling.factor': z.number().default(1),
  'llama.rope.scale_linear': z.number().default(1),
  'llama.expert_count': z.int().min(0).default(0),
  'llama.logit_scale': z.number().optional(),
  'llama.attention.scale': z.number().optional(),
  'llama.residual_scale': z.number().optional(),
  'llama.embedding_scale': z.number().optional(),
})

const OUTPUT = 'output.weight'
const EMBEDDING = 'token_embd.weight'
/** Frequencies of a rotary embedding that is scaled by wavelength (Llama 3.1). */
const ROPE_FACTORS = 'rope_freqs.weight'

/**
 * The shape of a model of ggml's architecture `llama`. What the engine does not compute is refused, never ignored.
 * @throws StartupError that names the file and the field.
 */
export function llamaShape(file: GgufFile): ModelShape {
  const refuse = (field: string, why: string): never => {
    throw new StartupError('unsupported_checkpoint', `${file.path}: ${field}: ${why}`)
  }
  const architecture = file.metadata.get('general.architecture')
  if (architecture !== 'llama')
    refuse('general.architecture', `only llama is served, not ${JSON.stringify(architecture)}`)
  const config = parseMetadata(Metadata, file)
  const embedding = file.tensors.find(({ name }) => name === EMBEDDING)
  if (!embedding) throw new StartupError('broken_checkpoint', `${file.path}: tensor ${EMBEDDING} is missing`)
  if (config['llama.expert_count'] > 0) refuse('llama.expert_count', 'mixtures of experts are not computed')
  const scaling = config['llama.rope.scaling.type']
  if (scaling !== 'none') refuse('llama.rope.scaling.type', `only none is computed, not ${scaling}`)
  for (const field of ['rope.scaling.factor', 'rope.scale_linear'] as const) {
    const factor = config[`llama.${field}`]
    if (factor !== 0 && factor !== 1)
      refuse(`llama.${field}`, `positions scaled by ${factor} are not computed`)
  }
  if (file.tensors.some(({ name }) => name === ROPE_FACTORS))
    refuse(ROPE_FACTORS, 'scaled rotary embeddings are not computed')
  for (const field of ['logit_scale', 'attention.scale', 'residual_scale', 'embedding_scale'] as const)
    if (config[`llama.${field}`] !== undefined) refuse(`llama.${field}`, 'is not computed')

  const hiddenSize = config['llama.embedding_length']
  const numHeads = config['llama.attention.head_count']
  const numKvHeads = config['llama.attention.head_count_kv'] ?? numHeads
  const headDim = config['llama.attention.key_length'] ?? hiddenSize / numHeads
  if (numHeads % numKvHeads !== 0)
    refuse('llama.attention.head_count_kv', `${numKvHeads} does not divide ${numHeads} heads`)
  if (!Number.isInteger(headDim) || headDim % 2 !== 0)
    refuse('llama.embedding_length', `${hiddenSize} gives ${numHeads} heads no even size`)
  if ((config['llama.attention.value_length'] ?? headDim) !== headDim)
    refuse('llama.attention.value_length', 'must be the key length')
  if ((config['llama.rope.dimension_count'] ?? headDim) !== headDim)
    refuse('llama.rope.dimension_count', 'partial rotary embeddings are not computed')
  return {
    vocabSize: embedding.shape[0] ?? 0,
    hiddenSize,
    intermediateSize: config['llama.feed_forward_length'],
    numLayers: config['llama.block_count'],
    numHeads,
    numKvHeads,
    headDim,
    contextTokens: config['llama.context_length'],
    rmsNormEps: config['llama.attention.layer_norm_rms_epsilon'],
    rope: plainRope(config['llama.rope.freq_base'], headDim),
    ...PLAIN_LLAMA,
    tieWordEmbeddings: !file.tensors.some(({ name }) => name === OUTPUT),
  }
}
