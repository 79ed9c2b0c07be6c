import { join } from 'node:path'
import { z } from 'zod'
import { readJson, readOptionalJson, readText } from './read-json.ts'

const AddedToken = z.looseObject({
  id: z.int().min(0),
  content: z.string().min(1),
  special: z.boolean().default(false),
  normalized: z.boolean().default(false),
})
export type AddedToken = z.infer<typeof AddedToken>

/** The fields of tokenizer.json that apar reads itself; the tokenizer library reads the rest. */
const TokenizerFile = z.looseObject({
  added_tokens: z.array(AddedToken),
  normalizer: z.unknown().optional(),
  pre_tokenizer: z.unknown().optional(),
  post_processor: z.unknown().optional(),
  decoder: z.unknown().optional(),
  model: z.looseObject({ type: z.string().optional(), vocab: z.record(z.string(), z.int().min(0)) }),
})
export type TokenizerFile = z.infer<typeof TokenizerFile>

const NamedToken = z.union([z.string(), z.looseObject({ content: z.string() })]).nullish()
const TokenizerConfigFile = z.looseObject({
  chat_template: z
    .union([z.string(), z.array(z.looseObject({ name: z.string(), template: z.string() }))])
    .nullish(),
  bos_token: NamedToken,
  eos_token: NamedToken,
  unk_token: NamedToken,
  pad_token: NamedToken,
  add_bos_token: z.boolean().nullish(),
})
type TokenizerConfig = z.infer<typeof TokenizerConfigFile>

const CONFIG_FILE = 'tokenizer_config.json'
const TEMPLATE_FILE = 'chat_template.jinja'

export interface ChatTemplate {
  /** Jinja source. */
  source: string
  /** Path of the file, for errors. */
  file: string
}

export interface TokenizerFiles {
  tokenizer: TokenizerFile
  /** Undefined for a model without one, which has no chats. */
  chatTemplate: ChatTemplate | undefined
  /** Comes before a prompt that is encoded without the template. */
  rawPrefix: string
  /** Texts of the named tokens, which templates use as variables. */
  named: { bos_token?: string; eos_token?: string; unk_token?: string; pad_token?: string }
}

export function readTokenizerFiles(folder: string): TokenizerFiles {
  const tokenizer = readJson(TokenizerFile, folder, 'tokenizer.json')
  const config = readOptionalJson(TokenizerConfigFile, folder, CONFIG_FILE) ?? {}
  const named: TokenizerFiles['named'] = {}
  for (const name of ['bos_token', 'eos_token', 'unk_token', 'pad_token'] as const) {
    const token = config[name]
    if (token) named[name] = typeof token === 'string' ? token : token.content
  }
  const rawPrefix = config.add_bos_token === false ? '' : (named.bos_token ?? '')
  return { tokenizer, chatTemplate: readChatTemplate(folder, config), named, rawPrefix }
}

function readChatTemplate(folder: string, config: TokenizerConfig): ChatTemplate | undefined {
  const own = readText(folder, TEMPLATE_FILE)
  if (own !== undefined) return { source: own, file: join(folder, TEMPLATE_FILE) }
  const { chat_template: template } = config
  const source =
    typeof template === 'string'
      ? template
      : (template?.find(({ name }) => name === 'default') ?? template?.[0])?.template
  return source === undefined ? undefined : { source, file: join(folder, CONFIG_FILE) }
}
