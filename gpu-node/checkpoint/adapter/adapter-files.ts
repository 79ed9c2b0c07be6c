import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { z } from 'zod'
import type { ModelShape } from '../../engine/engine-config.ts'
import { BRANCHING_FIELDS, type Branching, readBranching } from '../config/branching.ts'
import { type GenerationConfig, readGenerationConfig } from '../generation-config.ts'
import { readOptionalJson } from '../read-json.ts'
import { broken, refuseFieldsOf } from '../refusals.ts'
import { readTokenizerFiles, type TokenizerFiles } from '../tokenizer-files.ts'

const TOKENIZERS = ['tokenizer.json', 'tokenizer.model', 'vocab.json']
const CONFIG = 'config.json'
/** Without a tokenizer they would say nothing: it is better to ask than to ignore one. */
const BESIDE_TOKENIZER = ['tokenizer_config.json', 'chat_template.jinja', 'chat_template.json']

/** The tokenizer beside an adapter, which is used instead of the base's, as with transformers; undefined without one. */
export function readAdapterText(folder: string, { vocabSize }: ModelShape): TokenizerFiles | undefined {
  const has = (file: string) => existsSync(join(folder, file))
  if (!TOKENIZERS.some(has)) {
    const alone = BESIDE_TOKENIZER.find(has)
    if (alone === undefined) return undefined
    const missing = `${TOKENIZERS[0]} is missing beside it`
    throw broken(`${join(folder, alone)}: ${missing}`)
  }
  const text = readTokenizerFiles(folder)
  const outside = text.tokenizer.added_tokens.find(({ id }) => id >= vocabSize)
  if (outside) {
    const what = `id ${outside.id} of ${JSON.stringify(outside.content)}: neither the base nor the adapter has a row`
    throw broken(`${text.file}: ${what} for it`)
  }
  return text
}

/** How to sample from the tuned model, where the adapter's folder says so, instead of what the base says. */
export function readAdapterGeneration(folder: string): GenerationConfig | undefined {
  return existsSync(join(folder, 'generation_config.json')) ? readGenerationConfig(folder) : undefined
}

/** Sizes in a config.json, each with the field of the shape that it must agree with. */
const SIZES = {
  vocab_size: 'vocabSize',
  hidden_size: 'hiddenSize',
  intermediate_size: 'intermediateSize',
  num_hidden_layers: 'numLayers',
  num_attention_heads: 'numHeads',
  num_key_value_heads: 'numKvHeads',
  head_dim: 'headDim',
} as const satisfies Record<string, keyof ModelShape>

const ConfigFile = z.looseObject({
  ...BRANCHING_FIELDS,
  ...Object.fromEntries(Object.keys(SIZES).map((field) => [field, z.number().nullish()])),
})

/**
 * How the adapter taught the model to fork: of a config.json beside it, nothing else is used. Its sizes must be those
 * of the base, or of the merged model.
 */
export function readAdapterForking(
  folder: string,
  base: ModelShape,
  merged: ModelShape,
): Branching | undefined {
  const config = readOptionalJson(ConfigFile, folder, CONFIG)
  if (!config) return undefined
  for (const [field, ofShape] of Object.entries(SIZES)) {
    const size = config[field]
    if (size == null || size === base[ofShape] || size === merged[ofShape]) continue
    const what = `${field}: is ${size}, the base has ${base[ofShape]}`
    throw broken(`${join(folder, CONFIG)}: ${what}`)
  }
  return readBranching(config, refuseFieldsOf(join(folder, CONFIG)))
}
