import { join } from 'node:path'
import { z } from 'zod'
import { StartupError } from '../startup-error.ts'
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

export interface TokenizerFiles {
  tokenizer: TokenizerFile
  /** Jinja source. */
  chatTemplate: string
  /** Texts of the named tokens, which templates use as variables. */
  /** Comes before a prompt that is encoded without the template. */
  rawPrefix: string
  named: { bos_token?: string; eos_token?: string; unk_token?: string; pad_token?: string }
}

export function readTokenizerFiles(folder: string): TokenizerFiles {
  const tokenizer = readJson(TokenizerFile, folder, 'tokenizer.json')
  const config = readOptionalJson(TokenizerConfigFile, folder, 'tokenizer_config.json') ?? {}
  const named: TokenizerFiles['named'] = {}
  for (const name of ['bos_token', 'eos_token', 'unk_token', 'pad_token'] as const) {
    const token = config[name]
    if (token) named[name] = typeof token === 'string' ? token : token.content
  }
  const chatTemplate = readText(folder, 'chat_template.jinja') ?? templateOf(config.chat_template)
  if (chatTemplate === undefined) {
    const file = join(folder, 'tokenizer_config.json')
    throw new StartupError(
      'broken_checkpoint',
      `${file}: chat_template is missing, and so is chat_template.jinja`,
    )
  }
  const rawPrefix = config.add_bos_token === false ? '' : (named.bos_token ?? '')
  return { tokenizer, chatTemplate, named, rawPrefix }
}

type ChatTemplate = z.infer<typeof TokenizerConfigFile>['chat_template']

function templateOf(template: ChatTemplate): string | undefined {
  if (typeof template === 'string') return template
  return (template?.find(({ name }) => name === 'default') ?? template?.[0])?.template
}
