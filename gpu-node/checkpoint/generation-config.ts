import { z } from 'zod'
import { readOptionalJson } from './read-json.ts'

/** The sampling and end-token fields of transformers' generation_config.json. */
const GenerationFile = z.looseObject({
  do_sample: z.boolean().nullish(),
  temperature: z.number().min(0).nullish(),
  /** 0 is a usual value for off. */
  top_p: z.number().min(0).max(1).nullish(),
  /** 0 and -1 are usual values for off. */
  top_k: z.int().min(-1).nullish(),
  min_p: z.number().min(0).max(1).nullish(),
  repetition_penalty: z.number().gt(0).nullish(),
  eos_token_id: z.union([z.int().min(0), z.array(z.int().min(0))]).nullish(),
})

/** Defaults for sampling fields that a request omits. Units and bounds as in GenerateRequest. */
export interface SamplingDefaults {
  temperature: number
  topP: number
  topK: number
  minP: number
  repetitionPenalty: number
}

export interface GenerationConfig {
  sampling: SamplingDefaults
  eosTokenIds: number[]
}

export const GREEDY: SamplingDefaults = { temperature: 0, topP: 1, topK: 0, minP: 0, repetitionPenalty: 1 }

/** Without the file, or without `do_sample`, decoding is greedy, as in transformers. */
export function readGenerationConfig(folder: string): GenerationConfig {
  const file = readOptionalJson(GenerationFile, folder, 'generation_config.json') ?? {}
  return {
    sampling: {
      temperature: file.do_sample ? (file.temperature ?? 1) : 0,
      topP: file.top_p || 1,
      topK: Math.max(0, file.top_k ?? 0),
      minP: file.min_p ?? 0,
      repetitionPenalty: file.repetition_penalty ?? 1,
    },
    eosTokenIds: [file.eos_token_id ?? []].flat(),
  }
}
