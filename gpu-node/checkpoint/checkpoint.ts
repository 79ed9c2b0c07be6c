import { existsSync, statSync } from 'node:fs'
import { basename, join, resolve } from 'node:path'
import type { Joints } from '../../shared/protocol/events.ts'
import type { ModelShape } from '../engine/engine-config.ts'
import type { ReasoningChoice } from '../reasoning/reasoning-format.ts'
import type { ToolFormatName } from '../tools/tool-format.ts'
import { readAdapterForking, readAdapterGeneration, readAdapterText } from './adapter/adapter-files.ts'
import { mergeAdapter } from './adapter/merge-adapter.ts'
import type { Branching, BranchLimits } from './config/branching.ts'
import { readConfig } from './config.ts'
import { checkpointDigest } from './digest.ts'
import { GREEDY, readGenerationConfig, type SamplingDefaults } from './generation-config.ts'
import { readGguf } from './gguf/gguf-file.ts'
import { llamaShape } from './gguf/llama-config.ts'
import { llamaWeights } from './gguf/llama-weights.ts'
import { ggufTokenizer } from './gguf/tokenizer.ts'
import { medusaWarnings } from './medusa/describe-medusa.ts'
import { findMedusa } from './medusa/find-medusa.ts'
import { type MedusaHeads, readMedusaHeads } from './medusa/medusa-heads.ts'
import { isPublishedApar, PUBLISHED } from './published-apar.ts'
import { broken } from './refusals.ts'
import { listFolder } from './regular-file.ts'
import { chosenTemplate } from './tokenizer/chat-template.ts'
import { readTokenizerFiles, type TokenizerFiles } from './tokenizer-files.ts'
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
  /** As its own files name it: in config.json's `architectures`, or GGUF's `general.architecture`. */
  architecture: string
  shape: ModelShape
  weights: WeightTable
  medusa: MedusaHeads | undefined
  tokens: ControlTokens
  joints: Joints
  branchLimits: BranchLimits
  sampling: SamplingDefaults
  text: TokenizerFiles
  /** What an operator should know: a sentence each. */
  warnings: readonly string[]
  /**
   * Identifies all of the above but folder, name, time, the architecture's name, Medusa heads and warnings. Computed when
   * it is read first, from samples of all weights. @throws StartupError when a file cannot be read.
   */
  readonly digest: string
}

/** What a checkpoint's files say, whatever their format. */
interface CheckpointParts {
  readonly path: string
  /** File that messages name. */
  readonly configFile: string
  readonly name: string
  readonly architecture: string
  readonly shape: ModelShape
  readonly weights: WeightTable
  readonly text: TokenizerFiles
  readonly eosTokenIds: readonly number[]
  readonly branching: Branching | undefined
  readonly sampling: SamplingDefaults
  readonly warnings: readonly string[]
}

const GGUF = '.gguf'

/** The chat template of a published APAR checkpoint, which has none of its own. */
const PUBLISHED_TEMPLATE = 'vicuna_v1.1'

export interface CheckpointOptions {
  /** Instead of the checkpoint's own chat template: the name of a known one, or the path of a Jinja file. */
  readonly chatTemplate?: string | undefined
  /** How the model calls tools. Default: as its chat template writes calls. */
  readonly toolFormat?: ToolFormatName | undefined
  /** How the model marks its reasoning. Default: with the markers of its chat template or its tokens. */
  readonly reasoningFormat?: ReasoningChoice | undefined
  /** A folder of peft with LoRA that is merged into the checkpoint. */
  readonly adapter?: string | undefined
  /** A folder with Medusa heads, or `none`. Default: `medusa/` in the folder of the adapter, or else of the checkpoint. */
  readonly medusa?: string | undefined
}

/**
 * `path`: a folder, or a GGUF file. A folder without config.json is its only GGUF file.
 * @throws StartupError with a one-line message that names the file and field at fault.
 */
export function readCheckpoint(path: string, options: CheckpointOptions = {}): Checkpoint {
  const parts = readParts(resolve(path))
  const { adapter } = options
  return toCheckpoint(adapter === undefined ? parts : withAdapter(parts, resolve(adapter)), options)
}

function readParts(path: string): CheckpointParts {
  const stat = statSync(path, { throwIfNoEntry: false })
  if (stat?.isDirectory()) {
    const gguf = onlyGguf(path)
    return gguf === undefined ? readFolder(path) : readGgufParts(gguf)
  }
  if (stat?.isFile() && path.endsWith(GGUF)) return readGgufParts(path)
  throw broken(`${path} is neither a folder nor a ${GGUF} file`)
}

function withAdapter(base: CheckpointParts, folder: string): CheckpointParts {
  if (!statSync(folder, { throwIfNoEntry: false })?.isDirectory())
    throw broken(`${folder}: an adapter is a folder`)
  const merged = mergeAdapter(base, folder)
  const text = readAdapterText(folder, merged.shape) ?? base.text
  const generation = readAdapterGeneration(folder)
  return {
    ...base,
    ...merged,
    sampling: generation?.sampling ?? base.sampling,
    eosTokenIds: [...base.eosTokenIds, ...(generation?.eosTokenIds ?? [])],
    name: `${base.name}+${basename(folder)}`,
    text: { ...text, chatTemplate: text.chatTemplate ?? base.text.chatTemplate },
    branching: readAdapterForking(folder, base.shape, merged.shape) ?? base.branching,
  }
}

/** The GGUF file of a folder that has no config.json; undefined when there is none. */
function onlyGguf(folder: string): string | undefined {
  if (existsSync(join(folder, 'config.json'))) return undefined
  const [first, ...others] = listFolder(folder).filter((name) => name.endsWith(GGUF))
  if (first === undefined) return undefined
  if (others.length === 0) return join(folder, first)
  throw broken(
    `${folder} has ${others.length + 1} ${GGUF} files: give the path of one, such as ${join(folder, first)}`,
  )
}

function readFolder(folder: string): CheckpointParts {
  const config = readConfig(folder)
  const generation = readGenerationConfig(folder)
  return {
    path: folder,
    configFile: join(folder, 'config.json'),
    name: basename(folder),
    architecture: config.architecture,
    shape: config.shape,
    weights: readWeights(folder, config.shape, config.quantisation),
    text: readTokenizerFiles(folder),
    eosTokenIds: [...config.eosTokenIds, ...generation.eosTokenIds],
    branching: config.branching,
    sampling: generation.sampling,
    warnings: config.warnings,
  }
}

function readGgufParts(path: string): CheckpointParts {
  const file = readGguf(path)
  const { shape, architecture, warnings } = llamaShape(file)
  const { files: text, eosTokenIds } = ggufTokenizer(file)
  return {
    path,
    configFile: path,
    name: basename(path, GGUF),
    architecture: String(file.metadata.get('general.architecture')),
    shape,
    weights: checkWeights([path], llamaWeights(file, shape, architecture), shape),
    text,
    eosTokenIds,
    branching: undefined,
    sampling: GREEDY,
    warnings,
  }
}

function toCheckpoint(parts: CheckpointParts, options: CheckpointOptions): Checkpoint {
  const { configFile, shape, eosTokenIds } = parts
  const isPublished = isPublishedApar(parts.text.tokenizer.added_tokens)(PUBLISHED.fork_token)
  const branching = parts.branching ?? (isPublished ? PUBLISHED : undefined)
  const text = {
    ...withTemplate(parts.text, options.chatTemplate, isPublished),
    toolFormat: options.toolFormat,
    reasoningFormat: options.reasoningFormat,
  }
  const heads = findMedusa(parts.path, options.medusa, options.adapter)
  const medusa = heads === undefined ? undefined : readMedusaHeads(heads, shape)
  const idOf = (token: string, field: string) => controlId(parts, token, field)
  const eosIds = [...eosTokenIds]
  if (text.named.eos_token !== undefined) eosIds.unshift(idOf(text.named.eos_token, 'eos_token'))
  const checkpoint = {
    path: parts.path,
    name: parts.name,
    created: Math.floor(statSync(configFile).mtimeMs / 1000),
    architecture: parts.architecture,
    shape,
    weights: parts.weights,
    medusa,
    tokens: {
      fork: branching && idOf(branching.fork_token, `${branching.source ?? 'apar'}.fork_token`),
      child: branching && idOf(branching.child_token, `${branching.source ?? 'apar'}.child_token`),
      eos: checkEos(configFile, eosIds, shape),
    },
    joints: branching?.joints ?? 'kept',
    branchLimits: branching?.limits ?? {},
    sampling: parts.sampling,
    text,
    warnings: [...parts.warnings, ...(medusa ? medusaWarnings(medusa, shape) : [])],
  }
  let digest: string | undefined
  return {
    ...checkpoint,
    get digest() {
      digest ??= checkpointDigest(checkpoint)
      return digest
    },
  }
}

function withTemplate(
  text: TokenizerFiles,
  choice: string | undefined,
  isPublished: boolean,
): TokenizerFiles {
  const template = choice ?? (text.chatTemplate || !isPublished ? undefined : PUBLISHED_TEMPLATE)
  return template === undefined ? text : { ...text, chatTemplate: chosenTemplate(template) }
}

function controlId({ text, shape }: CheckpointParts, token: string, field: string): number {
  const id = text.tokenizer.added_tokens.find(({ content }) => content === token)?.id
  if (id === undefined) {
    throw broken(`${text.file}: added_tokens: no ${JSON.stringify(token)} (${field})`)
  }
  if (id >= shape.vocabSize) {
    const limit = `the vocabulary has ${shape.vocabSize} tokens`
    throw broken(`${text.file}: id ${id} of ${JSON.stringify(token)}: ${limit}`)
  }
  return id
}

function checkEos(where: string, ids: number[], shape: ModelShape): number[] {
  const unique = [...new Set(ids)]
  if (unique.length === 0) throw broken(`${where}: eos_token_id: no token ends an answer`)
  const outside = unique.find((id) => id >= shape.vocabSize)
  if (outside !== undefined) {
    throw broken(`${where}: eos_token_id: ${outside} is not in the vocabulary`)
  }
  return unique
}
