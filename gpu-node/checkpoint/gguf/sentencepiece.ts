/** A piece of a SentencePiece BPE vocabulary with its score: the higher, the earlier it is merged. */
export interface ScoredPiece {
  readonly piece: string
  readonly score: number
  readonly index: number
}

/**
 * The merges that give the same tokens as SentencePiece's search for the best-scored pair: every split of a piece into two
 * other pieces, in descending order of the piece's score.
 */
export function mergesOf(pieces: readonly ScoredPiece[]): [string, string][] {
  const ids = new Map(pieces.map(({ piece, index }) => [piece, index]))
  const merges = pieces.flatMap(({ piece, score }) => {
    const characters = [...piece]
    const splits: { left: string; right: string; score: number }[] = []
    let left = ''
    for (const character of characters.slice(0, -1)) {
      left += character
      const right = piece.slice(left.length)
      if (ids.has(left) && ids.has(right)) splits.push({ left, right, score })
    }
    const order = (text: string) => ids.get(text) ?? 0
    return splits.sort((a, b) => order(a.left) - order(b.left) || order(a.right) - order(b.right))
  })
  merges.sort((a, b) => b.score - a.score || b.left.length - a.left.length || b.right.length - a.right.length)
  return merges.map(({ left, right }) => [left, right])
}

/**
 * Encoding word by word is much faster than a whole text, and gives the same tokens if no piece has a space behind
 * another character; null for other vocabularies.
 */
export function wordsSplitAtSpaces(pieces: readonly string[]) {
  if (pieces.some((piece) => /[^▁]▁/u.test(piece))) return null
  return { type: 'Split', pattern: { Regex: '▁*[^▁]+|▁+' }, behavior: 'Isolated', invert: false }
}
