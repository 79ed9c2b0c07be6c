import { join } from 'node:path'
import { z } from 'zod'
import { MAX_INT32, type ModelShape } from '../engine/engine-config.ts'
import {
  ARCHITECTURE_FIELDS,
  ARCHITECTURES,
  type Architecture,
  layersWithoutRope,
} from './config/architectures.ts'
import { BRANCHING_FIELDS, type Branching, readBranching } from './config/branching.ts'
import { CONFIG_RULES, checkFields } from './config/fields.ts'
import { ROPE_FIELDS, readRope } from './config/rope-fields.ts'
import { type Quantisation, readQuantisation } from './quantised/quantisation.ts'
import { readJson } from './read-json.ts'
import { type Refuse, refuseFieldsOf } from './refusals.ts'
import { MAX_HEAD_DIM } from './rope.ts'

const size = z
  .int()
  .min(1)
  .max(2 ** 31 - 1)
const TokenIds = z.union([z.int().min(0), z.array(z.int().min(0))])

/** All fields that are read; config/fields.ts decides about the others. */
const ConfigFile = z.looseObject({
  architectures: z.array(z.string()).min(1),
  model_type: z.string().nullish(),
  vocab_size: size,
  hidden_size: size,
  intermediate_size: size,
  num_attention_heads: size,
  num_key_value_heads: size.nullish(),
  head_dim: size.nullish(),
  max_position_embeddings: z.int().min(1),
  rms_norm_eps: z.number().positive().default(1e-6),
  tie_word_embeddings: z.boolean().nullish(),
  ...ARCHITECTURE_FIELDS,
  ...ROPE_FIELDS,
  quantization_config: z.unknown().optional(),
  eos_token_id: TokenIds.nullish(),
  ...BRANCHING_FIELDS,
})
type ConfigFile = z.infer<typeof ConfigFile>
const READ = new Set(Object.keys(ConfigFile.shape))

export interface CheckpointConfig {
  /** The name in `architectures` by which the model is served. */
  architecture: string
  shape: ModelShape
  quantisation: Quantisation | undefined
  branching: Branching | undefined
  eosTokenIds: number[]
  /** What an operator should know: fields that are not known, and limits of what is computed. */
  warnings: string[]
}

/**
 * Reads config.json of a model of a known architecture (config/architectures.ts). What the engine does not compute is
 * refused, never ignored.
 */
export function readConfig(folder: string): CheckpointConfig {
  const config = readJson(ConfigFile, folder, 'config.json')
  const file = join(folder, 'config.json')
  const warnings: string[] = []
  const warn = (field: string, what: string) => warnings.push(`${file}: ${field}: ${what}`)
  const refuse: Refuse = refuseFieldsOf(file)
  const { name, architecture } = architectureOf(config, refuse)
  for (const unknown of checkFields(config, READ, CONFIG_RULES, refuse)) {
    warn(unknown, 'is not known: if it changes what the model computes, its answers are wrong here')
  }

  const { defaults } = architecture
  const heads = config.num_attention_heads
  const kvHeads = config.num_key_value_heads ?? heads
  if (heads % kvHeads !== 0) refuse('num_key_value_heads', `${kvHeads} does not divide ${heads} heads`)
  const headDim = config.head_dim ?? defaults.headDim ?? config.hidden_size / heads
  if (!Number.isInteger(headDim))
    refuse('hidden_size', `${config.hidden_size} is no multiple of ${heads} heads`)
  if (headDim % 2 !== 0 || headDim > MAX_HEAD_DIM)
    refuse('head_dim', `heads need an even size of at most ${MAX_HEAD_DIM}, not ${headDim}`)
  const { rope, contextTokens } = readRope(config, {
    file,
    defaultTheta: defaults.ropeTheta,
    headDim,
    // Beyond what native code counts, and far beyond what any memory holds.
    contextTokens: Math.min(config.max_position_embeddings, MAX_INT32),
    refuse,
    warn,
  })
  const window = slidingWindow(config, architecture, refuse)
  if (window < contextTokens) {
    warn(
      'sliding_window',
      `the context ends at ${window} tokens, where the sliding window would begin to move`,
    )
  }
  return {
    architecture: name,
    shape: {
      vocabSize: config.vocab_size,
      hiddenSize: config.hidden_size,
      intermediateSize: config.intermediate_size,
      numLayers: config.num_hidden_layers,
      numHeads: heads,
      numKvHeads: kvHeads,
      headDim,
      contextTokens: Math.min(contextTokens, window),
      rmsNormEps: config.rms_norm_eps,
      rope,
      layersWithoutRope: skippedLayers(config, architecture, refuse),
      biases: architecture.biases(config),
      headNorms: architecture.headNorms,
      tieWordEmbeddings: config.tie_word_embeddings ?? defaults.tieWordEmbeddings,
    },
    quantisation:
      config.quantization_config == null ? undefined : readQuantisation(file, config.quantization_config),
    branching: readBranching(config, refuse),
    eosTokenIds: [config.eos_token_id ?? []].flat(),
    warnings,
  }
}

function architectureOf(
  { architectures, model_type }: ConfigFile,
  refuse: Refuse,
): { name: string; architecture: Architecture } {
  const name = architectures.find((each) => ARCHITECTURES.has(each)) ?? ''
  const architecture = ARCHITECTURES.get(name)
  if (!architecture) {
    const served = [...ARCHITECTURES.keys()].join(', ')
    return refuse('architectures', `${architectures.join(', ')} is not served (${served} are)`)
  }
  if (model_type != null && model_type !== architecture.modelType) {
    refuse('model_type', `${model_type} is another architecture than ${name}`)
  }
  return { name, architecture }
}

function skippedLayers(config: ConfigFile, { skipsRope }: Architecture, refuse: Refuse): number[] {
  const { no_rope_layers: list, no_rope_layer_interval: interval, num_hidden_layers: layers } = config
  if (!skipsRope) {
    if (list?.includes(0)) refuse('no_rope_layers', 'this architecture rotates in all layers')
    if (interval != null) refuse('no_rope_layer_interval', 'this architecture rotates in all layers')
    return []
  }
  if (list && list.length < layers) refuse('no_rope_layers', `has ${list.length} values for ${layers} layers`)
  return layersWithoutRope(config)
}

const LAYER_TYPES = ['full_attention', 'sliding_attention']

/** Tokens that each token sees, itself included: a context of that many is the same with and without the window. */
function slidingWindow(config: ConfigFile, { slides, defaults }: Architecture, refuse: Refuse): number {
  const other = config.layer_types?.find((type) => !LAYER_TYPES.includes(type))
  if (other !== undefined) refuse('layer_types', `${other} is not computed (only ${LAYER_TYPES.join(', ')})`)
  // Null is no window, and absent is the architecture's default.
  const window = config.sliding_window === undefined ? defaults.slidingWindow : config.sliding_window
  if (window == null || !slides(config)) return Number.POSITIVE_INFINITY
  if (window === 0) refuse('sliding_window', 'a window of no tokens')
  return window
}
