import { join } from 'node:path'
import { z } from 'zod'
import type { ModelShape } from '../../engine/engine-config.ts'
import { MAX_MEDUSA_HEADS, MAX_MEDUSA_LAYERS } from '../../engine/engine-config.ts'
import { readJson } from '../read-json.ts'
import { broken, unsupported } from '../refusals.ts'

export const MEDUSA_CONFIG = 'config.json'

/**
 * A tokenizer that grew by control tokens, and padding to a multiple of 64 or 128, explain fewer rows in the heads than
 * in the model. More are another vocabulary.
 */
const MAX_MISSING_TOKENS = 1024

const size = z.int().min(1)

/** Of the reference implementation; the last four fields are apar's own. */
const ConfigFile = z.looseObject({
  medusa_num_heads: size,
  medusa_num_layers: z.int().min(0),
  base_model_name_or_path: z.string().nullish(),
  hidden_size: size.nullish(),
  vocab_size: size.nullish(),
  tie_lm_head: z.boolean().nullish(),
  reads_next_token: z.boolean().nullish(),
})

export interface MedusaConfig {
  /** The file. */
  readonly file: string
  readonly numHeads: number
  readonly numLayers: number
  readonly sharesLmHead: boolean
  readonly readsNextToken: boolean
  /** Rows of the projections that are used; undefined when the file does not say. */
  readonly vocabSize: number | undefined
  readonly baseModel: string | undefined
}

/** Reads and checks config.json of a folder with Medusa heads. @throws StartupError that names the field. */
export function readMedusaConfig(folder: string, shape: ModelShape): MedusaConfig {
  const config = readJson(ConfigFile, folder, MEDUSA_CONFIG)
  const file = join(folder, MEDUSA_CONFIG)
  const { medusa_num_heads: numHeads, medusa_num_layers: numLayers } = config
  const sharesLmHead = config.tie_lm_head ?? false
  const most = (field: string, value: number, limit: number) => {
    if (value > limit) throw unsupported(`${file}: ${field}: ${value}, at most ${limit} are used`)
  }
  most('medusa_num_heads', numHeads, MAX_MEDUSA_HEADS)
  most('medusa_num_layers', numLayers, MAX_MEDUSA_LAYERS)
  if (sharesLmHead && numLayers === 0) {
    throw broken(`${file}: medusa_num_layers: heads without layers that share lm_head all predict alike`)
  }
  if (config.hidden_size && config.hidden_size !== shape.hiddenSize) {
    throw broken(`${file}: hidden_size: the heads have ${config.hidden_size}, the model ${shape.hiddenSize}`)
  }
  if (config.vocab_size) checkMedusaVocabulary(`${file}: vocab_size`, config.vocab_size, shape, sharesLmHead)
  return {
    file,
    numHeads,
    numLayers,
    sharesLmHead,
    readsNextToken: config.reads_next_token ?? false,
    vocabSize: config.vocab_size ?? undefined,
    baseModel: config.base_model_name_or_path ?? undefined,
  }
}

/**
 * Heads that share lm_head may draft any number of its first tokens, which are the frequent ones.
 * @throws StartupError unless the model's vocabulary can have grown from one of `vocabSize` tokens
 */
export function checkMedusaVocabulary(
  where: string,
  vocabSize: number,
  shape: ModelShape,
  sharesLmHead = false,
): void {
  const least = sharesLmHead ? 1 : shape.vocabSize - MAX_MISSING_TOKENS
  if (vocabSize > shape.vocabSize || vocabSize < least) {
    throw broken(`${where}: the heads have ${vocabSize} tokens, the model ${shape.vocabSize}`)
  }
}
