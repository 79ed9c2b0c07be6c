import { join } from 'node:path'
import type { ReasoningChoice } from '../reasoning/reasoning-format.ts'
import type { ToolFormatName } from '../tools/tool-format.ts'
import { readOptionalJson } from './read-json.ts'
import { broken } from './refusals.ts'
import { type ChatTemplate, readChatTemplate } from './tokenizer/chat-template.ts'
import { type ConvertedTokenizer, sentencePieceFolder } from './tokenizer/sentencepiece-folder.ts'
import {
  NAMES,
  type NamedTokens,
  readTokenizerConfig,
  type TokenizerConfig,
} from './tokenizer/tokenizer-config.ts'
import { TokenizerFile } from './tokenizer/tokenizer-file.ts'
import { vocabMergesFolder } from './tokenizer/vocab-merges.ts'

/** Classes that add BOS only when told to. */
const WITHOUT_BOS = /^(GPT2|Qwen2)Tokenizer(Fast)?$/

export interface TokenizerFiles {
  /** Path of the file with the vocabulary, for errors. */
  file: string
  tokenizer: TokenizerFile
  /** Undefined for a model without one, which has no chats. */
  chatTemplate: ChatTemplate | undefined
  /** Comes before a prompt that is encoded without the template. */
  rawPrefix: string
  named: NamedTokens
  /** How the model calls tools, if an operator has said so. */
  toolFormat?: ToolFormatName | undefined
  /** The same of its reasoning. */
  reasoningFormat?: ReasoningChoice | undefined
}

/** @throws StartupError that names the file and what is wrong with it. */
export function readTokenizerFiles(folder: string): TokenizerFiles {
  const config = readTokenizerConfig(folder)
  const { file, tokenizer, named } =
    readTokenizerJson(folder, config) ??
    sentencePieceFolder(folder, config) ??
    vocabMergesFolder(folder, config) ??
    none(folder)
  const addsBos = config.add_bos_token ?? !WITHOUT_BOS.test(config.tokenizer_class ?? '')
  const rawPrefix = addsBos ? (named.bos_token ?? '') : ''
  return { file, tokenizer, chatTemplate: readChatTemplate(folder, config), named, rawPrefix }
}

function readTokenizerJson(folder: string, config: TokenizerConfig): ConvertedTokenizer | undefined {
  const tokenizer = readOptionalJson(TokenizerFile, folder, 'tokenizer.json')
  if (!tokenizer) return undefined
  const named: NamedTokens = {}
  for (const name of NAMES) {
    const token = config[name]
    if (token) named[name] = typeof token === 'string' ? token : token.content
  }
  return { file: join(folder, 'tokenizer.json'), tokenizer, named }
}

function none(folder: string): never {
  const others = 'so are tokenizer.model, and vocab.json with merges.txt'
  throw broken(`${join(folder, 'tokenizer.json')} is missing, and ${others}`)
}
