import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { readConfig } from '../../../gpu-node/checkpoint/config.ts'
import { readTokenizerFiles, type TokenizerFiles } from '../../../gpu-node/checkpoint/tokenizer-files.ts'
import { StartupError } from '../../../gpu-node/startup-error.ts'
import { PromptEncoder } from '../../../gpu-node/text/prompt-encoder.ts'
import { type BaseModel, describeBase } from './base-model.ts'
import { type ForkTokens, withForkTokens } from './fork-tokens.ts'
import type { Json } from './json.ts'
import { type ModelText, readModelText } from './model-text.ts'

/**
 * Writes the folder that text is encoded with, and that a tuned model is served with: tokenizer, chat template,
 * config.json with `branching`, and base.json, which says where the weights are.
 * @throws StartupError when the base is unusable, or cannot be said in the words of these files.
 */
export async function writeModel(base: BaseModel, choice: ForkTokens, folder: string): Promise<ModelText> {
  const { text, tokenizerConfig, generationConfig, minVocabSize, branching } = withForkTokens(base, choice)
  await mkdir(folder, { recursive: true })
  const write = (name: string, value: unknown) =>
    writeFile(join(folder, name), `${JSON.stringify(value, null, 2)}\n`)
  const vocab_size = Math.max(Number(base.configs[0]?.vocab_size), minVocabSize)
  await writeConfig(base, folder, (config) => ({ ...config, vocab_size, branching }))
  await write('generation_config.json', generationConfig)
  await write('base.json', await describeBase(base))
  await writeTokenizer(text, tokenizerConfig, folder)
  return readModelText(folder)
}

/** Writes tokenizer.json and tokenizer_config.json, with the chat template, as transformers reads them. */
export async function writeTokenizer(
  text: TokenizerFiles,
  tokenizerConfig: Json,
  folder: string,
): Promise<void> {
  // The library of the Python trainer wants these fields to be there.
  await writeFile(
    join(folder, 'tokenizer.json'),
    JSON.stringify({ version: '1.0', truncation: null, padding: null, ...text.tokenizer }),
  )
  const source = text.chatTemplate?.source ?? ''
  const config = (chat_template: string): Json => ({
    ...tokenizerConfig,
    tokenizer_class: tokenizerConfig.tokenizer_class ?? 'PreTrainedTokenizerFast',
    ...text.named,
    add_bos_token: text.rawPrefix !== '',
    clean_up_tokenization_spaces: false,
    chat_template,
  })
  const write = (config: Json) =>
    writeFile(join(folder, 'tokenizer_config.json'), `${JSON.stringify(config, null, 2)}\n`)
  await write(config(source))
  if (text.chatTemplate?.afterRawPrefix && text.rawPrefix !== '') {
    // A template in a file has to write the BOS token itself.
    const expected = promptIds(new PromptEncoder(text))
    for (const begin of [`{{- bos_token }}`, `{{- bos_token ~ ' ' }}`]) {
      await write(config(begin + source))
      if (isDeepStrictEqual(promptIds(new PromptEncoder(readTokenizerFiles(folder))), expected)) break
      await write(config(source))
    }
  }
}

function promptIds(encoder: PromptEncoder): number[] {
  return [...encoder.encode([{ role: 'user', content: 'Hello, world' }], Number.POSITIVE_INFINITY)]
}

/**
 * Writes config.json, completed by `complete`: of the base's configs the first that gives its rotary embeddings.
 * @throws StartupError when none does.
 */
export async function writeConfig(
  base: BaseModel,
  folder: string,
  complete: (config: Json) => Json,
): Promise<void> {
  for (const config of base.configs) {
    const { apar: _older, ...rest } = config
    await writeFile(join(folder, 'config.json'), `${JSON.stringify(complete(rest), null, 2)}\n`)
    if (!base.ropeFrequencies) return
    const { shape } = readConfig(folder)
    if (areSame(shape.rope.frequencies, base.ropeFrequencies)) return
  }
  throw new StartupError(
    'unsupported_checkpoint',
    `${base.path}: rope_freqs: config.json has no words for them`,
  )
}

/** Frequencies of GGUF are divided in f32, those of config.json are computed. */
const TOLERANCE = 1e-5

function areSame(some: readonly number[], others: readonly number[]): boolean {
  const isClose = (one: number, other = Number.NaN) => Math.abs(one - other) <= TOLERANCE * other
  return some.length === others.length && some.every((each, index) => isClose(each, others[index]))
}
