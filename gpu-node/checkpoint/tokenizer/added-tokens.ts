import { join } from 'node:path'
import { z } from 'zod'
import { readOptionalJson } from '../read-json.ts'
import { unsupported } from '../refusals.ts'
import { type AddedToken, addedToken } from './tokenizer-file.ts'

/** Texts of the named tokens, which templates use as variables. */
export type NamedTokens = {
  bos_token?: string
  eos_token?: string
  unk_token?: string
  pad_token?: string
}
export const NAMES = ['bos_token', 'eos_token', 'unk_token', 'pad_token'] as const

/** Far more than any vocabulary has. */
const id = z
  .int()
  .min(0)
  .max(1 << 24)
const flag = z.boolean().optional()
const Token = z.looseObject({
  content: z.string().min(1),
  special: flag,
  lstrip: flag,
  rstrip: flag,
  single_word: flag,
})
const Named = z.union([z.string().min(1), Token]).nullish()
const names = { bos_token: Named, eos_token: Named, unk_token: Named, pad_token: Named }
const specials = z.array(z.union([z.string().min(1), Token])).nullish()

const CONFIG = 'tokenizer_config.json'
const Config = z.looseObject({
  ...names,
  additional_special_tokens: specials,
  added_tokens_decoder: z.record(z.string().regex(/^\d{1,8}$/), Token).nullish(),
})
const MAP = 'special_tokens_map.json'
const SpecialTokensMap = z.looseObject({ ...names, additional_special_tokens: specials })
const ADDED = 'added_tokens.json'
const AddedTokensFile = z.record(z.string().min(1), id)

export interface Vocabulary {
  idOf(piece: string): number | undefined
  /** The vocabulary's own special pieces. */
  readonly own: readonly AddedToken[]
  /** Named tokens of a folder that does not name them. */
  readonly defaults: NamedTokens
}

export interface AddedTokens {
  readonly addedTokens: AddedToken[]
  readonly named: NamedTokens
}

/**
 * The added tokens of a folder without tokenizer.json, as transformers' tokenizers in Python read them:
 * `added_tokens_decoder` of tokenizer_config.json, or else added_tokens.json and special_tokens_map.json.
 */
export function readAddedTokens(folder: string, { idOf, own, defaults }: Vocabulary): AddedTokens {
  const config = readOptionalJson(Config, folder, CONFIG) ?? {}
  const map = readOptionalJson(SpecialTokensMap, folder, MAP) ?? {}
  const tokens = new Map(own.map((token) => [token.content, token]))
  const listed = Object.entries(config.added_tokens_decoder ?? {})
  for (const [number, token] of listed) tokens.set(token.content, withFlags(folder, Number(number), token))
  if (!config.added_tokens_decoder) {
    const added = readOptionalJson(AddedTokensFile, folder, ADDED) ?? {}
    for (const [content, number] of Object.entries(added)) tokens.set(content, addedToken(number, content))
  }
  const named: NamedTokens = {}
  const addSpecial = (token: string | z.infer<typeof Token>): string => {
    const { content, ...flags } = typeof token === 'string' ? { content: token } : token
    const known = tokens.get(content)
    const number = known?.id ?? idOf(content)
    const isListed = listed.some(([, { content: other }]) => other === content)
    if (known && isListed) tokens.set(content, { ...known, special: true })
    else if (number !== undefined) {
      tokens.set(content, withFlags(folder, number, { content, ...flags, special: true }))
    }
    return content
  }
  for (const name of NAMES) {
    const [first, second] = config.added_tokens_decoder ? [config, map] : [map, config]
    const token = first[name] ?? second[name]
    const byDefault = first[name] === undefined && second[name] === undefined ? defaults[name] : undefined
    if (token ?? byDefault) named[name] = addSpecial(token ?? byDefault ?? '')
  }
  for (const token of map.additional_special_tokens ?? config.additional_special_tokens ?? [])
    addSpecial(token)
  return { addedTokens: [...tokens.values()].sort((a, b) => a.id - b.id), named }
}

function withFlags(folder: string, number: number, token: z.infer<typeof Token>): AddedToken {
  const { content, special = false, lstrip = false, rstrip = false } = token
  if (token.single_word) {
    const why = `single_word of ${JSON.stringify(content)} is not served`
    throw unsupported(`${join(folder, CONFIG)}: ${why}`)
  }
  return addedToken(number, content, { special, lstrip, rstrip })
}
