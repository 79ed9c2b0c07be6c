import { z } from 'zod'
import { MAX_INT32, type ModelShape } from '../../engine/engine-config.ts'
import { layersWithoutRope } from '../config/architectures.ts'
import { checkFields, type FieldRules } from '../config/fields.ts'
import { checkValue } from '../read-json.ts'
import { broken, type Refuse, refuseFieldsOf } from '../refusals.ts'
import { MAX_HEAD_DIM } from '../rope.ts'
import { GGUF_ARCHITECTURES, type GgufArchitecture } from './architectures.ts'
import type { GgufFile } from './gguf-file.ts'
import { inside } from './metadata.ts'
import { GGUF_ROPE_FIELDS, ggufRope } from './rope.ts'

const size = z.int().min(1).max(MAX_INT32)

/** Of the architecture, whose name stands in front of each. */
const Fields = z.looseObject({
  block_count: size.max(4096),
  context_length: size,
  embedding_length: size,
  feed_forward_length: size,
  'attention.head_count': size,
  'attention.head_count_kv': size.optional(),
  'attention.key_length': size.optional(),
  'attention.value_length': size.optional(),
  'attention.layer_norm_rms_epsilon': z.number().positive(),
  'attention.sliding_window': z.int().min(0).default(0),
  ...GGUF_ROPE_FIELDS,
})
type Fields = z.infer<typeof Fields>
const READ = new Set(Object.keys(Fields.shape))

const RULES: FieldRules = {
  neutral: {
    logit_scale: [0, 1],
    residual_scale: [0, 1],
    embedding_scale: [0, 1],
    'attention.scale': [0],
    'attention.output_scale': [0, 1],
    'attention.temperature_scale': [0],
    'attention.temperature_length': [0],
    attn_logit_softcapping: [0],
    final_logit_softcapping: [0],
    'attention.clamp_kqv': [0],
    'attention.max_alibi_bias': [0],
    'attention.causal': [true],
    'attention.shared_kv_layers': [0],
    use_parallel_residual: [false],
    swin_norm: [false],
    pooling_type: [0],
    expert_count: [0],
    nextn_predict_layers: [0],
    'rope.dimension_sections': [],
    'rope.scaling.alpha': [0, 1],
    // Negative: as if it was absent.
    'rope.scaling.yarn_ext_factor': [1, -1],
    // Versions of llama.cpp disagree about it.
    'rope.scaling.yarn_attn_factor': [1, -1],
  },
  irrelevant: new Set([
    ...['vocab_size', 'tensor_data_layout', 'decoder_start_token_id', 'expert_used_count'],
    ...['attention.layer_norm_epsilon', 'attention.sliding_window_pattern', 'rope.scaling.finetuned'],
  ]),
}

const OUTPUT = 'output.weight'
const EMBEDDING = 'token_embd.weight'

export interface GgufShape {
  readonly shape: ModelShape
  readonly architecture: GgufArchitecture
  /** What an operator should know. */
  readonly warnings: readonly string[]
}

/**
 * The shape of a model of a known architecture. What the engine does not compute is refused, never ignored.
 * @throws StartupError that names the file and the field.
 */
export function llamaShape(file: GgufFile): GgufShape {
  const refuseFile: Refuse = refuseFieldsOf(file.path)
  const name = file.metadata.get('general.architecture')
  const architecture = GGUF_ARCHITECTURES.get(String(name))
  if (!architecture) {
    const served = [...GGUF_ARCHITECTURES.keys()].join(', ')
    return refuseFile('general.architecture', `${JSON.stringify(name)} is not served (${served} are)`)
  }
  const refuse = (field: string, why: string) => refuseFile(`${name}.${field}`, why)
  const fields = inside(file, String(name))
  const warnings = checkFields(fields, READ, RULES, refuse).map(
    (field) =>
      `${file.path}: ${name}.${field}: is not known: if it changes what the model computes, its answers are wrong here`,
  )
  const config = fieldsOf(file, String(name), fields)
  const has = (tensor: string) => file.tensors.some((each) => each.name === tensor)
  const embedding = file.tensors.find((each) => each.name === EMBEDDING)
  if (!embedding) throw broken(`${file.path}: tensor ${EMBEDDING} is missing`)

  const heads = headsOf(config, refuse)
  const { headDim } = heads
  const rotated = config['rope.dimension_count'] ?? headDim
  if (rotated % 2 !== 0 || rotated > headDim)
    refuse('rope.dimension_count', `${rotated} of ${headDim} elements of a head cannot be rotated in pairs`)
  // Its rows are interleaved over whole heads: what was rotated would be two elements of one half.
  if (rotated !== headDim && architecture.interleaves)
    refuse(
      'rope.dimension_count',
      `only whole heads of ${headDim} are rotated in this architecture, not ${rotated}`,
    )
  const window = config['attention.sliding_window']
  const contextTokens = window === 0 ? config.context_length : Math.min(window, config.context_length)
  if (contextTokens < config.context_length) {
    const end = `the context ends at ${window} tokens, where the sliding window would begin to move`
    warnings.push(`${file.path}: ${name}.attention.sliding_window: ${end}`)
  }
  const shape = {
    vocabSize: embedding.shape[0] ?? 0,
    hiddenSize: config.embedding_length,
    intermediateSize: config.feed_forward_length,
    numLayers: config.block_count,
    ...heads,
    contextTokens,
    rmsNormEps: config['attention.layer_norm_rms_epsilon'],
    rope: ggufRope(file, config, { rotated, contextTokens: config.context_length, refuse }),
    layersWithoutRope: skippedLayers(config, architecture),
    biases: {
      qkv: architecture.qkvBias || has('blk.0.attn_q.bias'),
      attentionOutput: has('blk.0.attn_output.bias'),
      mlp: has('blk.0.ffn_gate.bias'),
    },
    headNorms: architecture.headNorms,
    tieWordEmbeddings: !has(OUTPUT),
  }
  return { shape, architecture, warnings }
}

function fieldsOf(file: GgufFile, name: string, fields: Record<string, unknown>): Fields {
  const { [name]: checked } = checkValue(z.object({ [name]: Fields }), { [name]: fields }, file.path)
  return checked as Fields
}

function headsOf(config: Fields, refuse: Refuse) {
  const hiddenSize = config.embedding_length
  const numHeads = config['attention.head_count']
  const numKvHeads = config['attention.head_count_kv'] ?? numHeads
  const headDim = config['attention.key_length'] ?? hiddenSize / numHeads
  if (numHeads % numKvHeads !== 0)
    refuse('attention.head_count_kv', `${numKvHeads} does not divide ${numHeads} heads`)
  if (!Number.isInteger(headDim) || headDim % 2 !== 0)
    refuse('embedding_length', `${hiddenSize} gives ${numHeads} heads no even size`)
  if (headDim > MAX_HEAD_DIM)
    refuse('attention.head_count', `heads of ${headDim} elements are too large (${MAX_HEAD_DIM} is the most)`)
  if ((config['attention.value_length'] ?? headDim) !== headDim)
    refuse('attention.value_length', 'must be the key length')
  return { numHeads, numKvHeads, headDim }
}

function skippedLayers({ block_count }: Fields, { noRopeInterval }: GgufArchitecture): number[] {
  if (noRopeInterval === undefined) return []
  return layersWithoutRope({ num_hidden_layers: block_count, no_rope_layer_interval: noRopeInterval })
}
