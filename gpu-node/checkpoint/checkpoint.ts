import { statSync } from 'node:fs'
import { basename, join, resolve } from 'node:path'
import type { Joints } from '../../shared/protocol/events.ts'
import type { ModelShape } from '../engine/engine-config.ts'
import { StartupError } from '../startup-error.ts'
import { type AparOptions, readConfig } from './config.ts'
import { checkpointDigest } from './digest.ts'
import { readGenerationConfig, type SamplingDefaults } from './generation-config.ts'
import { readTokenizerFiles, type TokenizerFile, type TokenizerFiles } from './tokenizer-files.ts'
import { readWeights, type WeightTable } from './weights.ts'

/** The special tokens' ids, from the tokenizer. */
export interface ControlTokens {
  /** Undefined for a model that was not trained to fork; such a model is decoded serially. */
  fork: number | undefined
  child: number | undefined
  /** Each of these tokens ends a branch; never empty. */
  eos: number[]
}

/** A checkpoint in a Hugging Face folder, read and validated; weights are not loaded yet. */
export interface Checkpoint {
  folder: string
  /** The folder's name: the default model name for clients. */
  name: string
  /** Unix time in seconds. */
  created: number
  shape: ModelShape
  weights: WeightTable
  tokens: ControlTokens
  joints: Joints
  sampling: SamplingDefaults
  text: TokenizerFiles
  /** Identifies all of the above but folder, name and time. */
  digest: string
}

/** Options of the published APAR checkpoints: their config.json has none, but their tokenizers have these tokens. */
const PUBLISHED: AparOptions = { fork_token: '[SplitMask]', child_token: '[SplitSop]', joints: 'mended' }

/** @throws StartupError with a one-line message that names the file and field at fault. */
export function readCheckpoint(path: string): Checkpoint {
  const folder = resolve(path)
  if (!statSync(folder, { throwIfNoEntry: false })?.isDirectory()) {
    throw new StartupError('broken_checkpoint', `${folder} is not a folder`)
  }
  const config = readConfig(folder)
  const text = readTokenizerFiles(folder)
  const generation = readGenerationConfig(folder)
  const apar = config.apar ?? publishedOptions(text.tokenizer)
  const idOf = (token: string, field: string) => controlId(folder, text.tokenizer, config.shape, token, field)
  const eosIds = [...config.eosTokenIds, ...generation.eosTokenIds]
  if (text.named.eos_token !== undefined) eosIds.unshift(idOf(text.named.eos_token, 'eos_token'))
  const checkpoint = {
    folder,
    name: basename(folder),
    created: Math.floor(statSync(join(folder, 'config.json')).mtimeMs / 1000),
    shape: config.shape,
    weights: readWeights(folder, config.shape),
    tokens: {
      fork: apar && idOf(apar.fork_token, 'apar.fork_token'),
      child: apar && idOf(apar.child_token, 'apar.child_token'),
      eos: checkEos(folder, eosIds, config.shape),
    },
    joints: apar?.joints ?? 'kept',
    sampling: generation.sampling,
    text,
  }
  return { ...checkpoint, digest: checkpointDigest(checkpoint) }
}

function publishedOptions(tokenizer: TokenizerFile): AparOptions | undefined {
  const has = (token: string) => tokenizer.added_tokens.some(({ content }) => content === token)
  return has(PUBLISHED.fork_token) && has(PUBLISHED.child_token) ? PUBLISHED : undefined
}

function controlId(
  folder: string,
  file: TokenizerFile,
  shape: ModelShape,
  token: string,
  field: string,
): number {
  const id = file.added_tokens.find(({ content }) => content === token)?.id
  const where = join(folder, 'tokenizer.json')
  if (id === undefined) {
    throw new StartupError(
      'broken_checkpoint',
      `${where}: added_tokens: no ${JSON.stringify(token)} (${field})`,
    )
  }
  if (id >= shape.vocabSize) {
    const limit = `config.json has vocab_size ${shape.vocabSize}`
    throw new StartupError('broken_checkpoint', `${where}: id ${id} of ${JSON.stringify(token)}: ${limit}`)
  }
  return id
}

function checkEos(folder: string, ids: number[], shape: ModelShape): number[] {
  const unique = [...new Set(ids)]
  const where = join(folder, 'config.json')
  if (unique.length === 0)
    throw new StartupError('broken_checkpoint', `${where}: eos_token_id: no token ends an answer`)
  const outside = unique.find((id) => id >= shape.vocabSize)
  if (outside !== undefined) {
    throw new StartupError('broken_checkpoint', `${where}: eos_token_id: ${outside} is not in the vocabulary`)
  }
  return unique
}
