import { createHash } from 'node:crypto'
import { createReadStream, existsSync, statSync } from 'node:fs'
import { basename, join, resolve } from 'node:path'
import { z } from 'zod'
import type { Branching } from '../../../gpu-node/checkpoint/config/branching.ts'
import { readConfig } from '../../../gpu-node/checkpoint/config.ts'
import { readGguf } from '../../../gpu-node/checkpoint/gguf/gguf-file.ts'
import { ggufTokenizer } from '../../../gpu-node/checkpoint/gguf/tokenizer.ts'
import { isPublishedApar, PUBLISHED } from '../../../gpu-node/checkpoint/published-apar.ts'
import { readOptionalJson } from '../../../gpu-node/checkpoint/read-json.ts'
import { listFolder } from '../../../gpu-node/checkpoint/regular-file.ts'
import { chosenTemplate } from '../../../gpu-node/checkpoint/tokenizer/chat-template.ts'
import { readTokenizerFiles, type TokenizerFiles } from '../../../gpu-node/checkpoint/tokenizer-files.ts'
import { StartupError } from '../../../gpu-node/startup-error.ts'
import { ggufConfigs } from './gguf-config.ts'
import type { Json } from './json.ts'

/** The model that is to learn, without its weights. */
export interface BaseModel {
  /** Undefined for a model that begins from nothing. */
  path: string | undefined
  /** Folder of an adapter over it: its own tokenizer, and its way to fork, come before the base's. */
  adapter?: string
  format: 'safetensors' | 'gguf' | 'none'
  text: TokenizerFiles
  /** Contents of config.json, in order of preference: the first that means what the base's own file says is used. */
  configs: readonly Json[]
  /** Of the rotary embeddings that config.json must give: what a GGUF file computes. */
  ropeFrequencies?: readonly number[]
  tokenizerConfig: Json
  generationConfig: Json
  branching: Branching | undefined
}

const AnyJson = z.looseObject({})
const VICUNA = 'vicuna_v1.1'

/**
 * @param path a folder as transformers writes it, or a GGUF file.
 * @param chatTemplate instead of the model's own: the name of a known one, or the path of a Jinja file.
 * @param adapter folder of an adapter over the model.
 * @throws StartupError that names the file and what is wrong with it.
 */
export function readBaseModel(path: string, chatTemplate?: string, adapter?: string): BaseModel {
  const base = readModelFiles(path, adapter)
  const { added_tokens } = base.text.tokenizer
  const isPublished = isPublishedApar(added_tokens)(PUBLISHED.fork_token)
  const template = chatTemplate ?? (base.text.chatTemplate || !isPublished ? undefined : VICUNA)
  const text = template === undefined ? base.text : { ...base.text, chatTemplate: chosenTemplate(template) }
  if (!text.chatTemplate) {
    const why = 'has no chat template: choose one by --chat-template'
    throw new StartupError('unsupported_checkpoint', `${base.path} ${why}`)
  }
  return { ...base, text, branching: base.branching ?? (isPublished ? PUBLISHED : undefined) }
}

/** The same with the chat template that the model has, if it has one. @throws StartupError */
export function readModelFiles(path: string, adapter?: string): BaseModel {
  const gguf = ggufPath(resolve(path))
  const base = gguf === undefined ? readFolder(resolve(path)) : readGgufBase(gguf)
  return adapter === undefined ? base : withAdapter(base, resolve(adapter))
}

function withAdapter(base: BaseModel, adapter: string): BaseModel {
  const vocabSize = Math.max(
    ...[base.configs[0], sizesOf(adapter)].map((each) => Number(each?.vocab_size ?? 0)),
  )
  const { branching } = existsSync(join(adapter, 'config.json')) ? readConfig(adapter) : base
  const forks = { adapter, branching: branching ?? base.branching }
  const configs = base.configs.map((config) => ({ ...config, vocab_size: vocabSize }))
  if (!existsSync(join(adapter, 'tokenizer.json'))) return { ...base, ...forks, configs }
  const text = readTokenizerFiles(adapter)
  return {
    ...base,
    ...forks,
    configs,
    text: { ...text, chatTemplate: text.chatTemplate ?? base.text.chatTemplate },
    tokenizerConfig: readOptionalJson(AnyJson, adapter, 'tokenizer_config.json') ?? {},
    generationConfig: readOptionalJson(AnyJson, adapter, 'generation_config.json') ?? base.generationConfig,
  }
}

function sizesOf(adapter: string): Json {
  return readOptionalJson(AnyJson, adapter, 'config.json') ?? {}
}

function ggufPath(path: string): string | undefined {
  const stat = statSync(path, { throwIfNoEntry: false })
  if (stat?.isFile() && path.endsWith('.gguf')) return path
  if (!stat?.isDirectory()) {
    throw new StartupError('broken_checkpoint', `${path} is neither a folder nor a .gguf file`)
  }
  if (existsSync(join(path, 'config.json'))) return undefined
  const [only, ...others] = listFolder(path).filter((name) => name.endsWith('.gguf'))
  return only === undefined || others.length > 0 ? undefined : join(path, only)
}

function readFolder(path: string): BaseModel {
  const { branching } = readConfig(path)
  return {
    path,
    format: 'safetensors',
    text: readTokenizerFiles(path),
    configs: [readOptionalJson(AnyJson, path, 'config.json') ?? {}],
    tokenizerConfig: readOptionalJson(AnyJson, path, 'tokenizer_config.json') ?? {},
    generationConfig: readOptionalJson(AnyJson, path, 'generation_config.json') ?? {},
    branching,
  }
}

function readGgufBase(path: string): BaseModel {
  const file = readGguf(path)
  const { files, eosTokenIds } = ggufTokenizer(file)
  const { configs, ropeFrequencies } = ggufConfigs(file)
  const idOf = (token: string | undefined) =>
    files.tokenizer.added_tokens.find(({ content }) => content === token)?.id
  const ids = {
    bos_token_id: idOf(files.named.bos_token) ?? null,
    eos_token_id: eosTokenIds.length === 1 ? eosTokenIds[0] : eosTokenIds,
  }
  return {
    path,
    format: 'gguf',
    text: files,
    configs: configs.map((config) => ({ ...config, ...ids })),
    ropeFrequencies,
    tokenizerConfig: {},
    generationConfig: { do_sample: false, ...ids },
    branching: undefined,
  }
}

/** Larger files are known by their path alone: hashing them would take longer than the build. */
const MAX_HASHED_BYTES = 2 ** 30

/** Contents of base.json. */
export async function describeBase({ path, format, adapter }: BaseModel): Promise<Json> {
  if (path === undefined) return { path: null, format }
  const over = adapter === undefined ? {} : { adapter }
  if (format !== 'gguf' || statSync(path).size > MAX_HASHED_BYTES) return { path, format, ...over }
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(path)) hash.update(chunk)
  return { path, format, name: basename(path), sha256: hash.digest('hex'), ...over }
}
