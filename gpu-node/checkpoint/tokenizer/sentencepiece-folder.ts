import { join } from 'node:path'
import { isPublishedApar } from '../published-apar.ts'
import { unsupported } from '../refusals.ts'
import { readAddedTokens } from './added-tokens.ts'
import { sentencePieceTokenizer } from './sentencepiece.ts'
import { PIECE, type Piece, readSentencePieceFile, type SentencePieceFile } from './sentencepiece-file.ts'
import type { NamedTokens, TokenizerConfig } from './tokenizer-config.ts'
import { type AddedToken, addedToken, type TokenizerFile, vocabOf } from './tokenizer-file.ts'

const LLAMA = /^LlamaTokenizer(Fast)?$/

/** A tokenizer that was converted to the form of tokenizer.json. */
export interface ConvertedTokenizer {
  /** Path of the file with the vocabulary. */
  readonly file: string
  readonly tokenizer: TokenizerFile
  readonly named: NamedTokens
}

/**
 * The tokenizer of a folder with SentencePiece's tokenizer.model; undefined when there is none. It encodes as
 * transformers' LlamaTokenizer in Python does.
 */
export function sentencePieceFolder(folder: string, config: TokenizerConfig): ConvertedTokenizer | undefined {
  const file = join(folder, 'tokenizer.model')
  const model = readSentencePieceFile(file)
  if (!model) return undefined
  const { pieces } = model
  const texts = pieces.map(({ text }) => text)
  const symbols = pieces.filter(({ type }) => type === PIECE.userDefined).map(({ text }) => text)
  const mergeable = pieces
    .map(({ text, score, type }, index) => ({ piece: text, score, index, type }))
    .filter(({ type }) => type === PIECE.normal || type === PIECE.unused)
  const unknown = pieces[model.unknownId]
  const vocab = vocabOf(texts)
  const { addedTokens, named } = readAddedTokens(folder, {
    config,
    idOf: (piece) => vocab[piece],
    own: pieces.flatMap(specialPiece),
    defaults: defaultNames(model),
  })
  const isPublished = isPublishedApar(addedTokens)
  const tokenizer = sentencePieceTokenizer({
    file,
    pieces: texts,
    mergeable,
    symbols,
    // Training stripped white space beside them.
    addedTokens: addedTokens.map((token) =>
      isPublished(token.content) ? { ...token, lstrip: true, rstrip: true } : token,
    ),
    unknown: unknown?.type === PIECE.unknown ? unknown.text : undefined,
    byteFallback: model.byteFallback,
    prefix: prefixOf(config, model),
    collapsesSpaces: model.collapsesSpaces,
  })
  const unused = new Set(pieces.filter(({ type }) => type === PIECE.unused).map(({ text }) => text))
  const merged = (tokenizer.model.merges as [string, string][]).find((pair) => unused.has(pair.join('')))
  if (merged) {
    const why = `the piece ${JSON.stringify(merged.join(''))} is of type unused, but merges make it`
    throw unsupported(`${file}: ${why}`)
  }
  return { file, tokenizer, named }
}

function specialPiece({ text, type }: Piece, id: number): AddedToken[] {
  if (type === PIECE.control || type === PIECE.unknown) return [addedToken(id, text, { special: true })]
  // Found after the text was normalised, unlike added tokens.
  return type === PIECE.userDefined ? [addedToken(id, text, { normalized: true })] : []
}

function defaultNames({ pieces, bosId, eosId, unknownId }: SentencePieceFile): NamedTokens {
  const named: NamedTokens = {}
  const [bos, eos, unk] = [bosId, eosId, unknownId].map((id) => pieces[id])
  if (bos?.type === PIECE.control) named.bos_token = bos.text
  if (eos?.type === PIECE.control) named.eos_token = eos.text
  if (unk?.type === PIECE.unknown) named.unk_token = unk.text
  return named
}

function prefixOf(config: TokenizerConfig, model: SentencePieceFile): 'each' | 'first' | 'none' {
  if (config.legacy === false && LLAMA.test(config.tokenizer_class ?? 'LlamaTokenizer')) {
    return config.add_prefix_space === false ? 'none' : 'first'
  }
  return model.addsPrefix ? 'each' : 'none'
}
