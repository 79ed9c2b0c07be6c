import { join } from 'node:path'
import { z } from 'zod'
import { Joints } from '../../shared/protocol/events.ts'
import { MAX_INT32, type ModelShape } from '../engine/engine-config.ts'
import { StartupError } from '../startup-error.ts'
import { PLAIN_LLAMA, plainRope } from './plain-llama.ts'
import { type Quantisation, readQuantisation } from './quantised/quantisation.ts'
import { readJson } from './read-json.ts'

const size = z
  .int()
  .min(1)
  .max(2 ** 31 - 1)
/** Far above any model; small enough that the table of expected tensors stays small. */
const layers = size.max(4096)
const TokenIds = z.union([z.int().min(0), z.array(z.int().min(0))])

/** apar's extension of config.json: the fork tokens, and how the texts of parent and child are joined. */
const AparOptions = z.strictObject({
  fork_token: z.string().min(1),
  child_token: z.string().min(1),
  joints: Joints.default('kept'),
})
export type AparOptions = z.infer<typeof AparOptions>

/** Rotary embeddings; `type` is the older name of `rope_type`. */
const RopeFields = z
  .looseObject({
    rope_type: z.string().nullish(),
    type: z.string().nullish(),
    rope_theta: z.number().positive().nullish(),
    partial_rotary_factor: z.number().nullish(),
  })
  .nullish()
type RopeFields = z.infer<typeof RopeFields>

const ConfigFile = z.looseObject({
  architectures: z.array(z.string()).min(1),
  vocab_size: size,
  hidden_size: size,
  intermediate_size: size,
  num_hidden_layers: layers,
  num_attention_heads: size,
  num_key_value_heads: size.nullish(),
  head_dim: size.nullish(),
  max_position_embeddings: z.int().min(1),
  rms_norm_eps: z.number().positive().default(1e-6),
  rope_theta: z.number().positive().nullish(),
  partial_rotary_factor: z.number().nullish(),
  /** transformers 5 writes rope_theta here. */
  rope_parameters: RopeFields,
  rope_scaling: RopeFields,
  tie_word_embeddings: z.boolean().default(false),
  hidden_act: z.string().default('silu'),
  attention_bias: z.boolean().nullish(),
  mlp_bias: z.boolean().nullish(),
  quantization_config: z.unknown().optional(),
  eos_token_id: TokenIds.nullish(),
  apar: AparOptions.optional(),
})

export interface CheckpointConfig {
  shape: ModelShape
  quantisation: Quantisation | undefined
  apar: AparOptions | undefined
  eosTokenIds: number[]
}

/** Reads config.json of a Llama checkpoint. Features that the engine does not support are refused, never ignored. */
export function readConfig(folder: string): CheckpointConfig {
  const config = readJson(ConfigFile, folder, 'config.json')
  const refuse = (field: string, why: string): never => {
    const file = join(folder, 'config.json')
    throw new StartupError('unsupported_checkpoint', `${file}: ${field}: ${why}`)
  }
  if (!config.architectures.includes('LlamaForCausalLM')) {
    refuse('architectures', `only LlamaForCausalLM is served, not ${config.architectures.join(', ')}`)
  }
  if (config.hidden_act !== 'silu') refuse('hidden_act', `only silu is computed, not ${config.hidden_act}`)
  if (config.attention_bias) refuse('attention_bias', 'projections with biases are not computed')
  if (config.mlp_bias) refuse('mlp_bias', 'projections with biases are not computed')
  for (const field of ['rope_scaling', 'rope_parameters'] as const) {
    const why = unsupportedRope(config[field])
    if (why) refuse(`${field}.${why.field}`, why.reason)
  }
  const rotated = config.partial_rotary_factor ?? 1
  if (rotated !== 1) refuse('partial_rotary_factor', wholeHeads(rotated))

  const heads = config.num_attention_heads
  const kvHeads = config.num_key_value_heads ?? heads
  if (heads % kvHeads !== 0) refuse('num_key_value_heads', `${kvHeads} does not divide ${heads} heads`)
  const headDim = config.head_dim ?? config.hidden_size / heads
  if (!Number.isInteger(headDim))
    refuse('hidden_size', `${config.hidden_size} is no multiple of ${heads} heads`)
  if (headDim % 2 !== 0) refuse('head_dim', `rotary embeddings need an even size, not ${headDim}`)
  return {
    shape: {
      vocabSize: config.vocab_size,
      hiddenSize: config.hidden_size,
      intermediateSize: config.intermediate_size,
      numLayers: config.num_hidden_layers,
      numHeads: heads,
      numKvHeads: kvHeads,
      headDim,
      // Beyond what native code counts, and far beyond what any memory holds.
      contextTokens: Math.min(config.max_position_embeddings, MAX_INT32),
      rmsNormEps: config.rms_norm_eps,
      rope: plainRope(config.rope_theta ?? config.rope_parameters?.rope_theta ?? 10_000, headDim),
      ...PLAIN_LLAMA,
      tieWordEmbeddings: config.tie_word_embeddings,
    },
    quantisation:
      config.quantization_config == null
        ? undefined
        : readQuantisation(join(folder, 'config.json'), config.quantization_config),
    apar: config.apar,
    eosTokenIds: [config.eos_token_id ?? []].flat(),
  }
}

/** What of these fields is not computed; undefined when all of it is. */
function unsupportedRope(rope: RopeFields): { field: string; reason: string } | undefined {
  if (!rope) return undefined
  for (const field of ['rope_type', 'type'] as const) {
    const type = rope[field] ?? 'default'
    if (type !== 'default') return { field, reason: `only default is computed, not ${type}` }
  }
  const { partial_rotary_factor: rotated } = rope
  if (rotated != null && rotated !== 1) return { field: 'partial_rotary_factor', reason: wholeHeads(rotated) }
  // A scaling of no type was once linear.
  if (rope.rope_type == null && rope.type == null && 'factor' in rope && rope.factor !== 1) {
    return { field: 'factor', reason: 'scaled rotary embeddings are not computed' }
  }
  return undefined
}

function wholeHeads(factor: number): string {
  return `only whole heads are rotated (1), not ${factor} of them`
}
