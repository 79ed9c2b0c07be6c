import { z } from 'zod'
import type { RotaryEmbedding } from '../../engine/engine-config.ts'
import type { Refuse } from '../refusals.ts'
import {
  type RopeScaling,
  rotaryEmbedding,
  YARN_BETA_FAST,
  YARN_BETA_SLOW,
  yarnAttentionFactor,
} from '../rope.ts'
import { type GgufFile, readF32 } from './gguf-file.ts'

const context = z.int().min(1)
const factor = z.number().min(0).optional()

/** Without the architecture's name in front. */
export const GGUF_ROPE_FIELDS = {
  'rope.dimension_count': context.optional(),
  'rope.freq_base': z.number().positive().default(10_000),
  /** Without it a factor is linear. */
  'rope.scaling.type': z.string().default('linear'),
  /** 0 is none. */
  'rope.scaling.factor': factor,
  'rope.scale_linear': factor,
  'rope.scaling.original_context_length': context.optional(),
  'rope.scaling.attn_factor': z.number().positive().default(1),
  'rope.scaling.yarn_log_multiplier': factor,
  'rope.scaling.yarn_beta_fast': factor,
  'rope.scaling.yarn_beta_slow': factor,
}
type RopeFields = z.infer<z.ZodObject<typeof GGUF_ROPE_FIELDS>>

/** Llama 3.1's scaling, as divisors of the frequencies. */
export const ROPE_FACTORS = 'rope_freqs.weight'

interface RopeOptions {
  readonly rotated: number
  readonly contextTokens: number
  /** `field` without the architecture's name. */
  readonly refuse: Refuse
}

/** The rotary embeddings of a file; kinds of scaling that are not computed are refused by name. */
export function ggufRope(file: GgufFile, fields: RopeFields, options: RopeOptions): RotaryEmbedding {
  const { rotated, refuse } = options
  const scaling = scalingOf(fields, options)
  const rope = rotaryEmbedding(fields['rope.freq_base'], rotated, scaling)
  const tensor = file.tensors.find(({ name }) => name === ROPE_FACTORS)
  const divisors = tensor && readF32(file, tensor, rotated / 2)
  if (divisors && scaling.type !== 'default')
    refuse('rope.scaling.type', `${scaling.type} is not computed together with ${ROPE_FACTORS}`)
  const frequencies = divisors
    ? rope.frequencies.map((each, pair) => Math.fround(each / (divisors[pair] ?? 1)))
    : rope.frequencies
  if (!frequencies.every((each) => Number.isFinite(each) && each >= 0))
    refuse(divisors ? ROPE_FACTORS : 'rope.freq_base', 'gives frequencies that are no numbers')
  return { ...rope, frequencies }
}

function scalingOf(fields: RopeFields, { contextTokens, refuse }: RopeOptions): RopeScaling {
  const type = fields['rope.scaling.type']
  const given = fields['rope.scaling.factor'] ?? fields['rope.scale_linear'] ?? 0
  const factor = given === 0 ? 1 : given
  switch (type) {
    case 'none':
      return { type: 'default' }
    case 'linear':
      return factor === 1 ? { type: 'default' } : { type, factor }
    case 'yarn':
      return {
        type,
        factor,
        originalContext: fields['rope.scaling.original_context_length'] ?? contextTokens,
        betaFast: fields['rope.scaling.yarn_beta_fast'] || YARN_BETA_FAST,
        betaSlow: fields['rope.scaling.yarn_beta_slow'] || YARN_BETA_SLOW,
        truncate: true,
        attentionFactor:
          yarnAttentionFactor(factor, 1, fields['rope.scaling.yarn_log_multiplier']) *
          fields['rope.scaling.attn_factor'],
      }
    default:
      return refuse('rope.scaling.type', `only none, linear and yarn are computed, not ${type}`)
  }
}
