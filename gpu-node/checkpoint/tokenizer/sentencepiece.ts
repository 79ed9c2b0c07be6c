import { broken } from '../refusals.ts'
import { type AddedToken, type TokenizerFile, vocabOf } from './tokenizer-file.ts'

/** A piece of a SentencePiece BPE vocabulary with its score: the higher, the earlier it is merged. */
export interface ScoredPiece {
  readonly piece: string
  readonly score: number
  readonly index: number
}

export interface SentencePieceVocabulary {
  /** Path, for errors. */
  readonly file: string
  /** By id. */
  readonly pieces: readonly string[]
  /** The pieces that merges make. */
  readonly mergeable: readonly ScoredPiece[]
  /**
   * Pieces that are found in the normalised text before anything is merged (SentencePiece's user defined symbols). They
   * are among the added tokens, too, with `normalized`.
   */
  readonly symbols: readonly string[]
  readonly addedTokens: readonly AddedToken[]
  readonly unknown: string | undefined
  readonly byteFallback: boolean
  /** Where a space comes before text: at the start of each text between added tokens, of the first one, or nowhere. */
  readonly prefix: 'each' | 'first' | 'none'
  /** Runs of spaces become one, and those at the ends disappear. */
  readonly collapsesSpaces: boolean
}

/** Metaspace adds no space to a text that begins with `replacement`, SentencePiece to any text. */
const SPACE_BEFORE_FIRST = {
  type: 'Metaspace',
  replacement: '\uffff',
  str_rep: '▁',
  prepend_scheme: 'first',
  split: false,
}

/** Far more than any vocabulary needs: that of Gemma, with 256,000 pieces, has 600,000. */
const MAX_MERGES = 1 << 22
/** Characters of a piece that is made by merges; trained ones have at most 128. */
const MAX_PIECE = 512

/**
 * A SentencePiece BPE vocabulary in the form of tokenizer.json. It gives the same tokens but for rare cases: pieces of
 * equal score are merged in the order of their ids, not of their places in the text; a text that is nothing but a user
 * defined symbol gets no space before it, and with `first` one after a symbol in the first text does.
 * @throws StartupError when it has more merges than any vocabulary needs.
 */
export function sentencePieceTokenizer(vocabulary: SentencePieceVocabulary): TokenizerFile {
  const { pieces, mergeable, symbols, addedTokens, prefix } = vocabulary
  const merges = mergesOf(mergeable, vocabulary.file)
  const found = new Set(symbols)
  const words = wordsSplitAtSpaces(pieces.filter((piece) => !found.has(piece)))
  return {
    added_tokens: [...addedTokens],
    normalizer: {
      type: 'Sequence',
      normalizers: [
        ...(vocabulary.collapsesSpaces ? collapsedSpaces(prefix) : []),
        ...(prefix === 'each' ? [spaceBeforeEach(vocabulary)] : []),
        { type: 'Replace', pattern: { String: ' ' }, content: '▁' },
      ],
    },
    pre_tokenizer:
      prefix === 'first'
        ? { type: 'Sequence', pretokenizers: [SPACE_BEFORE_FIRST, ...(words ? [words] : [])] }
        : words,
    post_processor: null,
    decoder: {
      type: 'Sequence',
      decoders: [
        { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
        { type: 'ByteFallback' },
        { type: 'Fuse' },
        ...(prefix === 'none' ? [] : [{ type: 'Strip', content: ' ', start: 1, stop: 0 }]),
      ],
    },
    model: {
      type: 'BPE',
      unk_token: vocabulary.unknown ?? null,
      fuse_unk: true,
      byte_fallback: vocabulary.byteFallback,
      vocab: vocabOf(pieces),
      merges,
    },
  }
}

function collapsedSpaces(prefix: SentencePieceVocabulary['prefix']) {
  // Where only the first text gets a space, the others keep one at their start, and ▁ is a space like any other.
  const [run, ends] = prefix === 'first' ? ['[ ▁]+', ' \\z'] : [' +', '\\A |[ ▁]+\\z']
  return [
    { type: 'Replace', pattern: { Regex: run }, content: ' ' },
    { type: 'Replace', pattern: { Regex: ends }, content: '' },
  ]
}

function spaceBeforeEach({ symbols, collapsesSpaces }: SentencePieceVocabulary) {
  if (symbols.length === 0 && !collapsesSpaces) return { type: 'Prepend', prepend: '▁' }
  // The library applies this to the symbols themselves, too, before it looks for them.
  const without = ['', ...symbols].map((text) => text.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&')).join('|')
  return { type: 'Replace', pattern: { Regex: `\\A(?!(?:${without})\\z)` }, content: '▁' }
}

/**
 * The merges that give the same tokens as SentencePiece's search for the best-scored pair: every split of a piece into two
 * other pieces, in descending order of the piece's score.
 */
function mergesOf(pieces: readonly ScoredPiece[], file: string): [string, string][] {
  const ids = new Map(pieces.map(({ piece, index }) => [piece, index]))
  const merges: { left: string; right: string; score: number }[] = []
  for (const { piece, score, index } of pieces) {
    const characters = [...piece]
    if (characters.length > MAX_PIECE) {
      throw broken(`${file}: piece ${index} has ${characters.length} characters`)
    }
    const splits: typeof merges = []
    let left = ''
    for (const character of characters.slice(0, -1)) {
      left += character
      const right = piece.slice(left.length)
      if (ids.has(left) && ids.has(right)) splits.push({ left, right, score })
    }
    const order = (text: string) => ids.get(text) ?? 0
    merges.push(...splits.sort((a, b) => order(a.left) - order(b.left) || order(a.right) - order(b.right)))
    if (merges.length > MAX_MERGES) throw broken(`${file}: more than ${MAX_MERGES} merges`)
  }
  merges.sort((a, b) => b.score - a.score || b.left.length - a.left.length || b.right.length - a.right.length)
  return merges.map(({ left, right }) => [left, right])
}

/** A word with the spaces before it, or spaces at the end. */
export const WORDS = '▁*[^▁]+|▁+'

/**
 * Encoding word by word is much faster than a whole text, and gives the same tokens if no piece has a space behind
 * another character; null for other vocabularies.
 */
function wordsSplitAtSpaces(pieces: readonly string[]) {
  if (pieces.some((piece) => /[^▁]▁/u.test(piece))) return null
  return { type: 'Split', pattern: { Regex: WORDS }, behavior: 'Isolated', invert: false }
}
