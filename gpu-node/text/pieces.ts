import type { TokenizerFile } from '../checkpoint/tokenizer/tokenizer-file.ts'

type Vocab = TokenizerFile['model']['vocab']

const known = new WeakMap<Vocab, readonly string[]>()

/** The pieces of a vocabulary. Listing the keys of so large an object takes 10 ms, so it is done once. */
export function piecesOf(vocab: Vocab): readonly string[] {
  let pieces = known.get(vocab)
  if (!pieces) {
    pieces = Object.keys(vocab)
    known.set(vocab, pieces)
  }
  return pieces
}
