import { z } from 'zod'
import { readOptionalJson } from '../read-json.ts'

/** Texts of the named tokens, which templates use as variables. */
export type NamedTokens = {
  bos_token?: string
  eos_token?: string
  unk_token?: string
  pad_token?: string
}
export const NAMES = ['bos_token', 'eos_token', 'unk_token', 'pad_token'] as const

const flag = z.boolean().optional()
const Token = z.looseObject({
  content: z.string().min(1),
  special: flag,
  lstrip: flag,
  rstrip: flag,
  single_word: flag,
})
export type ConfiguredToken = z.infer<typeof Token>

/** An empty text is no token. */
const Named = z.union([z.string(), Token]).nullish()
/** Fields of special_tokens_map.json, too. */
export const SPECIAL_TOKENS = {
  bos_token: Named,
  eos_token: Named,
  unk_token: Named,
  pad_token: Named,
  additional_special_tokens: z.array(z.union([z.string().min(1), Token])).nullish(),
}

/** A template, or several with names. Of chat_template.json, too. */
export const CHAT_TEMPLATE = {
  chat_template: z
    .union([z.string(), z.array(z.looseObject({ name: z.string(), template: z.string() }))])
    .nullish(),
}

/** All fields of tokenizer_config.json that are read. */
const TokenizerConfig = z.looseObject({
  ...SPECIAL_TOKENS,
  ...CHAT_TEMPLATE,
  tokenizer_class: z.string().nullish(),
  added_tokens_decoder: z.record(z.string().regex(/^\d{1,8}$/), Token).nullish(),
  // `add_eos_token` is for texts to train with: a prompt is to be continued.
  add_bos_token: z.boolean().nullish(),
  add_prefix_space: z.boolean().nullish(),
  /** Of SentencePiece: whether each text after an added token begins with a space, as SentencePiece alone would have it. */
  legacy: z.boolean().nullish(),
})
export type TokenizerConfig = z.infer<typeof TokenizerConfig>

export const TOKENIZER_CONFIG = 'tokenizer_config.json'

/** Empty for a folder without the file. @throws StartupError that names the field. */
export function readTokenizerConfig(folder: string): TokenizerConfig {
  return readOptionalJson(TokenizerConfig, folder, TOKENIZER_CONFIG) ?? {}
}
