import { AparError } from '../../../shared/errors.ts'
import { PIECE, type SentencePieceModel } from './sentencepiece.ts'

export const BOS = '<s>'
export const EOS = '</s>'

/** Contents of tokenizer.json; only the fields that apar reads are typed. */
export interface TokenizerJson {
  added_tokens: { id: number; content: string; special: boolean }[]
  model: { vocab: Record<string, number>; merges: [string, string][]; [field: string]: unknown }
  [field: string]: unknown
}

/**
 * Converts a SentencePiece BPE model to a Hugging Face tokenizer.json, with `added` as special tokens after the
 * pieces.
 *
 * White space is kept: there is no dummy prefix and no stripping. So text next to a [Fork] or [Child] encodes to
 * the same pieces as alone, and joining decoded pieces gives the text. The space after an item's number ("2. ")
 * is a separate piece: as part of the next word, the model would have to predict it with every title, and a small
 * model then often omits it.
 * @throws AparError when the model was trained with other settings (needs BPE, byte fallback, no dummy prefix, no
 *   white space removal).
 */
export function toTokenizerJson(model: SentencePieceModel, added: readonly string[]): TokenizerJson {
  const { pieces } = model
  if (!model.bpe || !model.byteFallback || model.addDummyPrefix || model.removeExtraWhitespaces) {
    throw new AparError(
      'invalid_request',
      'train the SentencePiece model with --model_type=bpe --byte_fallback --add_dummy_prefix=false --remove_extra_whitespaces=false',
    )
  }
  const vocab = Object.fromEntries(pieces.map((piece, id) => [piece.text, id]))
  const special = pieces.flatMap(({ text, type }, id) =>
    type === PIECE.unknown || type === PIECE.control ? [addedToken(id, text)] : [],
  )
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: [...special, ...added.map((text, index) => addedToken(pieces.length + index, text))],
    normalizer: { type: 'Replace', pattern: { String: ' ' }, content: '▁' },
    // No piece contains ▁ after another character (SentencePiece splits at white space), so words can be encoded
    // one by one.
    pre_tokenizer: {
      type: 'Split',
      pattern: { Regex: '(?<=[0-9]\\.)▁|▁*[^▁]+|▁+' },
      behavior: 'Isolated',
      invert: false,
    },
    post_processor: null,
    decoder: {
      type: 'Sequence',
      decoders: [
        { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
        { type: 'ByteFallback' },
        { type: 'Fuse' },
      ],
    },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: '<unk>',
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: true,
      byte_fallback: true,
      ignore_merges: false,
      vocab,
      merges: mergesOf(model, vocab),
    },
  }
}

function addedToken(id: number, content: string) {
  return { id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special: true }
}

/** All pairs of pieces that merge to another piece, best score first: SentencePiece merges in score order. */
function mergesOf(model: SentencePieceModel, vocab: Record<string, number>): [string, string][] {
  const merges: { pair: [string, string]; score: number; order: number }[] = []
  for (const { text, score, type } of model.pieces) {
    if (type !== PIECE.normal) continue
    const characters = [...text]
    for (let cut = 1; cut < characters.length; cut += 1) {
      const pair: [string, string] = [characters.slice(0, cut).join(''), characters.slice(cut).join('')]
      const [left, right] = [vocab[pair[0]], vocab[pair[1]]]
      if (left !== undefined && right !== undefined) {
        merges.push({ pair, score, order: left * model.pieces.length + right })
      }
    }
  }
  merges.sort((a, b) => b.score - a.score || a.order - b.order)
  return merges.map(({ pair }) => pair)
}
