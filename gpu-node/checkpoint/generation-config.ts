import { z } from 'zod'
import { SMALLEST_FLOAT32 } from '../../shared/protocol/request.ts'
import { type DrySampling, drySampling, NO_DRY } from '../engine/dry-sampling.ts'
import { MAX_INT32 } from '../engine/engine-config.ts'
import { readOptionalJson } from './read-json.ts'

/**
 * The sampling and end-token fields of transformers' generation_config.json. The bounds are the engine's, as in
 * engine-request.ts: a value beyond them would be refused in every request that leaves the field out.
 */
const GenerationFile = z.looseObject({
  do_sample: z.boolean().nullish(),
  temperature: z.number().min(0).max(100).nullish(),
  /** 0 is a usual value for off. */
  top_p: z.number().min(0).max(1).nullish(),
  /** 0 and -1 are usual values for off. */
  top_k: z.int().min(-1).max(MAX_INT32).nullish(),
  min_p: z.number().min(0).max(1).nullish(),
  repetition_penalty: z.number().min(1e-6).max(100).nullish(),
  /** Not of transformers, which keeps them: as llama.cpp's server calls them. */
  dry_multiplier: z.number().min(0).max(100).nullish(),
  dry_base: z.number().min(1).max(100).nullish(),
  dry_allowed_length: z.int().min(1).max(MAX_INT32).nullish(),
  dry_penalty_last_n: z.int().min(-1).max(MAX_INT32).nullish(),
  dry_sequence_breakers: z.array(z.string().min(1)).max(16).nullish(),
  eos_token_id: z.union([z.int().min(0), z.array(z.int().min(0))]).nullish(),
})

/** Defaults for sampling fields that a request omits. Units and bounds as in GenerateRequest. */
export interface SamplingDefaults {
  temperature: number
  topP: number
  topK: number
  minP: number
  repetitionPenalty: number
  dry: DrySampling
}

export interface GenerationConfig {
  sampling: SamplingDefaults
  eosTokenIds: number[]
}

export const GREEDY: SamplingDefaults = {
  temperature: 0,
  topP: 1,
  topK: 0,
  minP: 0,
  repetitionPenalty: 1,
  dry: NO_DRY,
}

/** Without the file, or without `do_sample`, decoding is greedy, as in transformers. */
export function readGenerationConfig(folder: string): GenerationConfig {
  const file = readOptionalJson(GenerationFile, folder, 'generation_config.json') ?? {}
  return {
    sampling: {
      temperature: file.do_sample ? (file.temperature ?? 1) : 0,
      topP: Math.max(file.top_p || 1, SMALLEST_FLOAT32),
      topK: Math.max(0, file.top_k ?? 0),
      minP: file.min_p ?? 0,
      repetitionPenalty: file.repetition_penalty ?? 1,
      dry: drySampling(file),
    },
    eosTokenIds: [file.eos_token_id ?? []].flat(),
  }
}
