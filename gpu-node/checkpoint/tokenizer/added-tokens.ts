import { join } from 'node:path'
import { z } from 'zod'
import { readOptionalJson } from '../read-json.ts'
import { unsupported } from '../refusals.ts'
import {
  type ConfiguredToken,
  NAMES,
  type NamedTokens,
  SPECIAL_TOKENS,
  TOKENIZER_CONFIG,
  type TokenizerConfig,
} from './tokenizer-config.ts'
import { type AddedToken, addedToken } from './tokenizer-file.ts'

/** Far more than any vocabulary has. */
const id = z
  .int()
  .min(0)
  .max(1 << 24)

const MAP = 'special_tokens_map.json'
const SpecialTokensMap = z.looseObject(SPECIAL_TOKENS)
const ADDED = 'added_tokens.json'
const AddedTokensFile = z.record(z.string().min(1), id)

export interface Vocabulary {
  readonly config: TokenizerConfig
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
export function readAddedTokens(folder: string, { config, idOf, own, defaults }: Vocabulary): AddedTokens {
  const map = readOptionalJson(SpecialTokensMap, folder, MAP) ?? {}
  const tokens = new Map(own.map((token) => [token.content, token]))
  const listed = Object.entries(config.added_tokens_decoder ?? {})
  for (const [number, token] of listed) tokens.set(token.content, withFlags(folder, Number(number), token))
  if (!config.added_tokens_decoder) {
    const added = readOptionalJson(AddedTokensFile, folder, ADDED) ?? {}
    for (const [content, number] of Object.entries(added)) tokens.set(content, addedToken(number, content))
  }
  const named: NamedTokens = {}
  const addSpecial = (token: string | ConfiguredToken): string => {
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

function withFlags(folder: string, number: number, token: ConfiguredToken): AddedToken {
  const { content, special = false, lstrip = false, rstrip = false } = token
  if (token.single_word) {
    const why = `single_word of ${JSON.stringify(content)} is not served`
    throw unsupported(`${join(folder, TOKENIZER_CONFIG)}: ${why}`)
  }
  return addedToken(number, content, { special, lstrip, rstrip })
}
