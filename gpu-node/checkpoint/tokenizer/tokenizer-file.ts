import { z } from 'zod'

/** The library makes one pattern of all added tokens, and a pattern that is too long is found only when it is used. */
export const MAX_ADDED_TOKEN = 10_000

export const AddedToken = z.looseObject({
  id: z.int().min(0),
  content: z.string().min(1).max(MAX_ADDED_TOKEN),
  special: z.boolean().default(false),
  normalized: z.boolean().default(false),
})
export type AddedToken = z.infer<typeof AddedToken>

/** The fields of tokenizer.json that apar reads itself; the tokenizer library reads the rest. */
export const TokenizerFile = z.looseObject({
  added_tokens: z.array(AddedToken),
  normalizer: z.unknown().optional(),
  pre_tokenizer: z.unknown().optional(),
  post_processor: z.unknown().optional(),
  decoder: z.unknown().optional(),
  model: z.looseObject({ type: z.string().optional(), vocab: z.record(z.string(), z.int().min(0)) }),
})
/** A tokenizer in the form of tokenizer.json; those of other files are converted to it. */
export type TokenizerFile = z.infer<typeof TokenizerFile>

/** A piece that occurs twice (in padded vocabularies) keeps its first id. */
export function vocabOf(pieces: readonly string[]): Record<string, number> {
  const vocab: Record<string, number> = Object.create(null)
  for (const [id, piece] of pieces.entries()) vocab[piece] ??= id
  return vocab
}

export function addedToken(id: number, content: string, flags: Partial<AddedToken> = {}): AddedToken {
  const off = { special: false, normalized: false, single_word: false, lstrip: false, rstrip: false }
  return { id, content, ...off, ...flags }
}
