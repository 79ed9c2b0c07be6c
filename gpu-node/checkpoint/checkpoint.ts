import { statSync } from 'node:fs'
import { basename, join, resolve } from 'node:path'
import type { Joints } from '../../shared/protocol/events.ts'
import type { ModelShape } from '../engine/engine-config.ts'
import { StartupError } from '../startup-error.ts'
import { type AparOptions, readConfig } from './config.ts'
import { checkpointDigest } from './digest.ts'
import { GREEDY, readGenerationConfig, type SamplingDefaults } from './generation-config.ts'
import { readGguf } from './gguf/gguf-file.ts'
import { llamaShape } from './gguf/llama-config.ts'
import { llamaWeights } from './gguf/llama-weights.ts'
import { ggufTokenizer } from './gguf/tokenizer.ts'
import { readTokenizerFiles, type TokenizerFile, type TokenizerFiles } from './tokenizer-files.ts'
import { checkWeights, readWeights, type WeightTable } from './weights.ts'

/** The special tokens' ids, from the tokenizer. */
export interface ControlTokens {
  /** Undefined for a model that was not trained to fork; such a model is decoded serially. */
  fork: number | undefined
  child: number | undefined
  /** Each of these tokens ends a branch; never empty. */
  eos: number[]
}

/** A checkpoint, read and validated; weights are not loaded yet. */
export interface Checkpoint {
  /** Absolute path of its folder or file. */
  path: string
  /** The name of the folder or file: the default model name for clients. */
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

/** What a checkpoint's files say, whatever their format. */
interface CheckpointParts {
  readonly path: string
  /** Files that messages name. */
  readonly configFile: string
  readonly tokenizerFile: string
  readonly name: string
  readonly shape: ModelShape
  readonly weights: WeightTable
  readonly text: TokenizerFiles
  readonly eosTokenIds: readonly number[]
  readonly apar: AparOptions | undefined
  readonly sampling: SamplingDefaults
}

const GGUF = '.gguf'

/** Options of the published APAR checkpoints: their config.json has none, but their tokenizers have these tokens. */
const PUBLISHED: AparOptions = { fork_token: '[SplitMask]', child_token: '[SplitSop]', joints: 'mended' }

/**
 * `path`: a folder, or a GGUF file.
 * @throws StartupError with a one-line message that names the file and field at fault.
 */
export function readCheckpoint(path: string): Checkpoint {
  const absolute = resolve(path)
  const stat = statSync(absolute, { throwIfNoEntry: false })
  if (stat?.isDirectory()) return toCheckpoint(readFolder(absolute))
  if (stat?.isFile() && absolute.endsWith(GGUF)) return toCheckpoint(readGgufParts(absolute))
  throw new StartupError('broken_checkpoint', `${absolute} is neither a folder nor a ${GGUF} file`)
}

function readFolder(folder: string): CheckpointParts {
  const config = readConfig(folder)
  const generation = readGenerationConfig(folder)
  return {
    path: folder,
    configFile: join(folder, 'config.json'),
    tokenizerFile: join(folder, 'tokenizer.json'),
    name: basename(folder),
    shape: config.shape,
    weights: readWeights(folder, config.shape, config.quantisation),
    text: readTokenizerFiles(folder),
    eosTokenIds: [...config.eosTokenIds, ...generation.eosTokenIds],
    apar: config.apar,
    sampling: generation.sampling,
  }
}

function readGgufParts(path: string): CheckpointParts {
  const file = readGguf(path)
  const shape = llamaShape(file)
  const { files: text, eosTokenIds } = ggufTokenizer(file)
  return {
    path,
    configFile: path,
    tokenizerFile: path,
    name: basename(path, GGUF),
    shape,
    weights: checkWeights([path], llamaWeights(file, shape), shape),
    text,
    eosTokenIds,
    apar: undefined,
    sampling: GREEDY,
  }
}

function toCheckpoint(parts: CheckpointParts): Checkpoint {
  const { configFile, shape, text, eosTokenIds } = parts
  const apar = parts.apar ?? publishedOptions(text.tokenizer)
  const idOf = (token: string, field: string) => controlId(parts, token, field)
  const eosIds = [...eosTokenIds]
  if (text.named.eos_token !== undefined) eosIds.unshift(idOf(text.named.eos_token, 'eos_token'))
  const checkpoint = {
    path: parts.path,
    name: parts.name,
    created: Math.floor(statSync(configFile).mtimeMs / 1000),
    shape,
    weights: parts.weights,
    tokens: {
      fork: apar && idOf(apar.fork_token, 'apar.fork_token'),
      child: apar && idOf(apar.child_token, 'apar.child_token'),
      eos: checkEos(configFile, eosIds, shape),
    },
    joints: apar?.joints ?? 'kept',
    sampling: parts.sampling,
    text,
  }
  return { ...checkpoint, digest: checkpointDigest(checkpoint) }
}

function publishedOptions(tokenizer: TokenizerFile): AparOptions | undefined {
  const has = (token: string) => tokenizer.added_tokens.some(({ content }) => content === token)
  return has(PUBLISHED.fork_token) && has(PUBLISHED.child_token) ? PUBLISHED : undefined
}

function controlId(
  { text, tokenizerFile: where, shape }: CheckpointParts,
  token: string,
  field: string,
): number {
  const id = text.tokenizer.added_tokens.find(({ content }) => content === token)?.id
  if (id === undefined) {
    throw new StartupError(
      'broken_checkpoint',
      `${where}: added_tokens: no ${JSON.stringify(token)} (${field})`,
    )
  }
  if (id >= shape.vocabSize) {
    const limit = `the vocabulary has ${shape.vocabSize} tokens`
    throw new StartupError('broken_checkpoint', `${where}: id ${id} of ${JSON.stringify(token)}: ${limit}`)
  }
  return id
}

function checkEos(where: string, ids: number[], shape: ModelShape): number[] {
  const unique = [...new Set(ids)]
  if (unique.length === 0)
    throw new StartupError('broken_checkpoint', `${where}: eos_token_id: no token ends an answer`)
  const outside = unique.find((id) => id >= shape.vocabSize)
  if (outside !== undefined) {
    throw new StartupError('broken_checkpoint', `${where}: eos_token_id: ${outside} is not in the vocabulary`)
  }
  return unique
}
