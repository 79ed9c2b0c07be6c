import { z } from 'zod'
import { AparError } from '../../../shared/errors.ts'
import { parse } from '../../../shared/parse.ts'
import { count } from '../../engine/engine-config.ts'
import { broken, unsupported } from '../refusals.ts'

/**
 * How the linear layers are stored that are quantised. Which layers these are, the tensors say: lists of exceptions
 * (`ignore`, `modules_to_not_convert`) are not needed.
 */
export type Quantisation =
  /** Codes in e4m3, with one scale, one per output, or one per block of this many outputs and inputs. */
  | { readonly method: 'fp8'; readonly block: readonly [outputs: number, inputs: number] | undefined }
  /** Codes of 4 or 8 bits with zero points. `groupSize`: inputs that share a scale; undefined: all of them. */
  | { readonly method: 'awq'; readonly groupSize: number | undefined }
  | {
      readonly method: 'gptq'
      readonly bits: 4 | 8
      readonly groupSize: number | undefined
      /** What is added to a stored zero point. */
      readonly zeroOffset: 0 | 1
    }

const block = z.tuple([count, count])
/** -1: all inputs. */
const groupSize = z.literal(-1).or(count)

const Method = z.looseObject({ quant_method: z.string() })

/**
 * transformers' FineGrainedFP8Config, whose default these blocks are, and vLLM's Fp8Config. Activations are not
 * quantised here, whatever is said of them.
 */
const Fp8 = z.looseObject({
  fmt: z.string().nullish(),
  weight_block_size: block.nullable().default([128, 128]),
})

const CompressedTensors = z.looseObject({
  format: z.string(),
  config_groups: z.record(
    z.string(),
    z.looseObject({
      weights: z
        .looseObject({
          num_bits: z.int(),
          type: z.string(),
          symmetric: z.boolean().default(true),
          strategy: z.string().nullish(),
          block_structure: block.nullish(),
        })
        .nullish(),
    }),
  ),
  sparsity_config: z.looseObject({ format: z.string().nullish() }).nullish(),
  transform_config: z.looseObject({ config_groups: z.record(z.string(), z.unknown()).nullish() }).nullish(),
})

/** AutoAWQ. */
const Awq = z.looseObject({
  bits: z.int(),
  group_size: groupSize.default(128),
  zero_point: z.boolean().default(true),
  /** AutoAWQ's name; transformers' is `format`. */
  version: z.string().nullish(),
  format: z.string().nullish(),
})

/** AutoGPTQ, GPTQModel. */
const Gptq = z.looseObject({
  bits: z.int(),
  group_size: groupSize.default(128),
  /** Older files of AutoGPTQ have no name of their format: they are of version 1. */
  checkpoint_format: z.string().nullish(),
  format: z.string().nullish(),
  is_marlin_format: z.boolean().nullish(),
  pack_dtype: z.string().nullish(),
  /** Other options for layers whose names match; `-:` begins the pattern of layers that are not quantised. */
  dynamic: z.record(z.string(), z.unknown()).nullish(),
  adapter: z.unknown().optional(),
})

/** Reads `quantization_config` of config.json. @throws StartupError that names `file` and field. */
export function readQuantisation(file: string, config: unknown): Quantisation {
  const reader = new Reader(file)
  const { quant_method: method } = reader.parse(Method, config)
  switch (method.toLowerCase()) {
    case 'fp8':
      return fp8(reader, config)
    case 'fbgemm_fp8':
      return { method: 'fp8', block: undefined }
    case 'compressed-tensors':
      return compressedTensors(reader, config)
    case 'awq':
      return awq(reader, config)
    case 'gptq':
      return gptq(reader, config)
  }
  return reader.refuse(
    'quant_method',
    `${method} is not served (fp8, fbgemm_fp8, compressed-tensors, awq and gptq are)`,
  )
}

class Reader {
  private readonly file: string

  constructor(file: string) {
    this.file = file
  }

  parse<T>(schema: z.ZodType<T>, value: unknown): T {
    try {
      return parse(schema, value)
    } catch (error) {
      if (!(error instanceof AparError)) throw error
      throw broken(`${this.file}: quantization_config: ${error.message}`, error)
    }
  }

  refuse(field: string, why: string): never {
    throw unsupported(`${this.file}: quantization_config.${field}: ${why}`)
  }

  /** Refuses every value of a field but these. */
  allow<T>(field: string, value: T, ...served: T[]): void {
    if (!served.includes(value)) this.refuse(field, `${value} is not served (${served.join(', ')} is)`)
  }
}

function fp8(reader: Reader, config: unknown): Quantisation {
  const { fmt, weight_block_size } = reader.parse(Fp8, config)
  reader.allow('fmt', fmt ?? 'e4m3', 'e4m3')
  return { method: 'fp8', block: weight_block_size ?? undefined }
}

function compressedTensors(reader: Reader, config: unknown): Quantisation {
  const { format, config_groups, sparsity_config, transform_config } = reader.parse(CompressedTensors, config)
  reader.allow('format', format, 'float-quantized', 'naive-quantized')
  reader.allow('sparsity_config.format', sparsity_config?.format ?? 'dense', 'dense')
  if (Object.keys(transform_config?.config_groups ?? {}).length > 0) {
    reader.refuse('transform_config', 'transforms of weights and activations are not computed')
  }
  let blocks: [number, number] | undefined
  for (const [name, { weights }] of Object.entries(config_groups)) {
    if (!weights) continue
    const field = `config_groups.${name}.weights`
    reader.allow(`${field}.type`, weights.type, 'float')
    reader.allow(`${field}.num_bits`, weights.num_bits, 8)
    reader.allow(`${field}.symmetric`, weights.symmetric, true)
    reader.allow(`${field}.strategy`, weights.strategy ?? 'tensor', 'tensor', 'channel', 'block')
    if (weights.strategy !== 'block') continue
    const { block_structure: own } = weights
    if (!own) return reader.refuse(`${field}.block_structure`, 'is missing')
    if (blocks && blocks.join() !== own.join()) {
      reader.refuse(`${field}.block_structure`, 'blocks of two sizes are not served')
    }
    blocks = own
  }
  return { method: 'fp8', block: blocks }
}

function awq(reader: Reader, config: unknown): Quantisation {
  const { bits, group_size, zero_point, version, format } = reader.parse(Awq, config)
  reader.allow('bits', bits, 4)
  reader.allow('version', (version ?? format ?? 'gemm').toLowerCase(), 'gemm')
  reader.allow('zero_point', zero_point, true)
  return { method: 'awq', groupSize: toGroup(group_size) }
}

function gptq(reader: Reader, config: unknown): Quantisation {
  const fields = reader.parse(Gptq, config)
  const { bits, dynamic } = fields
  const format = (fields.checkpoint_format ?? fields.format ?? 'gptq').toLowerCase()
  reader.allow('checkpoint_format', format, 'gptq', 'gptq_v2')
  reader.allow('is_marlin_format', fields.is_marlin_format ?? false, false)
  reader.allow('pack_dtype', fields.pack_dtype ?? 'int32', 'int32')
  const other = Object.keys(dynamic ?? {}).find((pattern) => !pattern.startsWith('-:'))
  if (other !== undefined)
    reader.refuse('dynamic', `layers with options of their own (${other}) are not served`)
  if (fields.adapter != null) reader.refuse('adapter', 'adapters of quantised layers are not computed')
  if (bits !== 4 && bits !== 8) return reader.refuse('bits', `${bits} is not served (4, 8 is)`)
  return {
    method: 'gptq',
    bits,
    groupSize: toGroup(fields.group_size),
    zeroOffset: format === 'gptq' ? 1 : 0,
  }
}

function toGroup(size: number): number | undefined {
  return size === -1 ? undefined : size
}
