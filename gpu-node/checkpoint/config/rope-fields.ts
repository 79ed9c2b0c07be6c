import { isDeepStrictEqual } from 'node:util'
import { z } from 'zod'
import type { RotaryEmbedding } from '../../engine/engine-config.ts'
import { checkValue } from '../read-json.ts'
import type { Refuse } from '../refusals.ts'
import {
  type RopeScaling,
  rotaryEmbedding,
  YARN_BETA_FAST,
  YARN_BETA_SLOW,
  yarnAttentionFactor,
} from '../rope.ts'
import { checkFields } from './fields.ts'

const positive = z.number().positive().nullish()
const context = z.int().min(1).nullish()

/** Of `rope_scaling`, or of `rope_parameters`, which has the base too; `type` is the older name of `rope_type`. */
const ScalingFields = z.looseObject({
  rope_type: z.string().nullish(),
  type: z.string().nullish(),
  rope_theta: positive,
  partial_rotary_factor: positive,
  factor: positive,
  original_max_position_embeddings: context,
  low_freq_factor: positive,
  high_freq_factor: positive,
  attention_factor: positive,
  beta_fast: z.number().min(0).nullish(),
  beta_slow: z.number().min(0).nullish(),
  mscale: z.number().min(0).nullish(),
  mscale_all_dim: z.number().min(0).nullish(),
  truncate: z.boolean().optional(),
})
type ScalingFields = z.infer<typeof ScalingFields>

/** {@link ScalingFields}, or an object of them by type of layers. */
const ScalingObject = z.record(z.string(), z.unknown()).nullish()

/** The fields of config.json for rotary embeddings. */
export const ROPE_FIELDS = {
  rope_theta: positive,
  partial_rotary_factor: positive,
  original_max_position_embeddings: context,
  rope_scaling: ScalingObject,
  rope_parameters: ScalingObject,
}
type RopeFields = z.infer<z.ZodObject<typeof ROPE_FIELDS>>

const EVERY_TYPE = ['rope_type', 'type', 'rope_theta', 'partial_rotary_factor']
/** The fields that each type reads, besides those. */
const READ = {
  default: [],
  linear: ['factor'],
  dynamic: ['factor', 'original_max_position_embeddings'],
  llama3: ['factor', 'original_max_position_embeddings', 'low_freq_factor', 'high_freq_factor'],
  yarn: [
    ...['factor', 'original_max_position_embeddings', 'attention_factor', 'beta_fast', 'beta_slow'],
    ...['mscale', 'mscale_all_dim', 'truncate'],
  ],
} as const
type RopeType = keyof typeof READ

const RULES = {
  neutral: { mrope_section: [], short_factor: [], long_factor: [], short_mscale: [], long_mscale: [] },
  irrelevant: new Set(['finetuned']),
}

export interface RopeOptions {
  /** The path of config.json. */
  readonly file: string
  readonly defaultTheta: number
  readonly headDim: number
  /** `max_position_embeddings`. */
  readonly contextTokens: number
  readonly refuse: Refuse
  readonly warn: (field: string, what: string) => void
}

/** The rotary embeddings, and the context up to which they are right. Other kinds of scaling are refused by name. */
export function readRope(
  config: RopeFields,
  options: RopeOptions,
): { rope: RotaryEmbedding; contextTokens: number } {
  const { headDim, contextTokens, refuse, warn } = options
  const { source, fields } = mergedFields(config, options)
  const type = typeOf(source, fields, refuse)
  const read = new Set<string>([...EVERY_TYPE, ...READ[type]])
  const inside = (field: string, why: string) => refuse(`${source}.${field}`, why)
  for (const unknown of checkFields(fields, read, RULES, inside)) {
    warn(`${source}.${unknown}`, `is not read for scaling of type ${type}`)
  }
  const theta = fields.rope_theta ?? config.rope_theta ?? options.defaultTheta
  const rotated = Math.trunc(headDim * (fields.partial_rotary_factor ?? config.partial_rotary_factor ?? 1))
  if (rotated < 2 || rotated > headDim || rotated % 2 !== 0) {
    refuse('partial_rotary_factor', `${rotated} of ${headDim} elements of a head cannot be rotated in pairs`)
  }
  const original = config.original_max_position_embeddings ?? fields.original_max_position_embeddings
  const rope = rotaryEmbedding(
    theta,
    rotated,
    scalingOf(type, fields, original ?? contextTokens, options, inside),
  )
  if (!rope.frequencies.every(Number.isFinite)) refuse(source, 'gives frequencies that are no numbers')
  if (type === 'dynamic') {
    const end = Math.min(contextTokens, original ?? contextTokens)
    warn(source, `dynamic scaling begins after ${end} tokens: the context ends there`)
    return { rope, contextTokens: end }
  }
  const reach = type === 'yarn' && original ? Math.floor(original * (fields.factor ?? 1)) : 0
  if (reach > contextTokens) {
    warn(source, `reaches ${reach} tokens, but the context ends at max_position_embeddings, ${contextTokens}`)
  }
  return { rope, contextTokens }
}

/** The fields of both spellings together, and the name of the object that messages should name. */
function mergedFields({ rope_scaling, rope_parameters }: RopeFields, options: RopeOptions) {
  const scaling = ofAllLayers('rope_scaling', rope_scaling, options)
  const parameters = ofAllLayers('rope_parameters', rope_parameters, options)
  for (const [field, value] of Object.entries(scaling)) {
    if (parameters[field] !== undefined && !isDeepStrictEqual(parameters[field], value))
      options.refuse(`rope_parameters.${field}`, 'rope_scaling says something else')
  }
  const source = rope_parameters && !rope_scaling ? 'rope_parameters' : 'rope_scaling'
  return { source, fields: { ...parameters, ...scaling } }
}

/** Without fields that are null. */
function ofAllLayers(
  name: string,
  value: RopeFields['rope_scaling'],
  { file, refuse }: RopeOptions,
): ScalingFields {
  const inner = Object.values(value ?? {})
  const perType = inner.some((each) => typeof each === 'object' && each !== null && !Array.isArray(each))
  if (perType && inner.some((each) => !isDeepStrictEqual(each, inner[0])))
    refuse(name, 'rotary embeddings that differ between types of layers are not computed')
  const fields = { [name]: perType ? inner[0] : (value ?? {}) }
  const { [name]: checked = {} } = checkValue(z.record(z.string(), ScalingFields), fields, file)
  return Object.fromEntries(Object.entries(checked).filter(([, each]) => each !== null))
}

function typeOf(source: string, fields: ScalingFields, refuse: RopeOptions['refuse']): RopeType {
  const { rope_type, type: older, factor } = fields
  if (rope_type != null && older != null && rope_type !== older)
    refuse(`${source}.type`, `rope_type is ${rope_type}`)
  const type = rope_type ?? older
  // A scaling of no type was once linear.
  if (type == null && factor != null && factor !== 1)
    refuse(`${source}.factor`, 'the type of scaling is missing')
  const known = (name: string): name is RopeType => Object.hasOwn(READ, name)
  if (type == null) return 'default'
  if (known(type)) return type
  return refuse(
    `${source}.${rope_type == null ? 'type' : 'rope_type'}`,
    `only ${Object.keys(READ).join(', ')} are computed, not ${type}`,
  )
}

function scalingOf(
  type: RopeType,
  fields: ScalingFields,
  originalContext: number,
  { contextTokens }: RopeOptions,
  refuse: RopeOptions['refuse'],
): RopeScaling {
  const required = (field: 'factor' | 'low_freq_factor' | 'high_freq_factor') =>
    fields[field] ?? refuse(field, `is missing, and ${type} needs it`)
  switch (type) {
    case 'default':
      return { type }
    // Within the context that is served.
    case 'dynamic':
      return { type: 'default' }
    case 'linear':
      return { type, factor: required('factor') }
    case 'llama3': {
      const [lowFreqFactor, highFreqFactor] = [required('low_freq_factor'), required('high_freq_factor')]
      if (highFreqFactor <= lowFreqFactor) refuse('high_freq_factor', 'must be larger than low_freq_factor')
      return { type, factor: required('factor'), lowFreqFactor, highFreqFactor, originalContext }
    }
    case 'yarn': {
      const factor = fields.factor ?? contextTokens / originalContext
      return {
        type,
        factor,
        originalContext,
        betaFast: fields.beta_fast || YARN_BETA_FAST,
        betaSlow: fields.beta_slow || YARN_BETA_SLOW,
        truncate: fields.truncate ?? true,
        attentionFactor:
          fields.attention_factor ?? yarnAttentionFactor(factor, fields.mscale, fields.mscale_all_dim),
      }
    }
  }
}
