/** Differences between the logits of two implementations, over all rows of a path. */
export interface Agreement {
  rows: number
  /** Largest difference of one logit. */
  maxDifference: number
  /** Root mean square of the differences over that of the logits. */
  relativeRms: number
  /** Rows in which both have the same most likely token. */
  sameTop: number
}

/** Compares row-major [rows, vocabSize] logits. */
export function agreement(ours: Float32Array, theirs: Float32Array, vocabSize: number): Agreement {
  if (ours.length !== theirs.length || ours.length % vocabSize !== 0)
    throw new Error(`${ours.length} and ${theirs.length} logits for a vocabulary of ${vocabSize}`)
  const found = { rows: ours.length / vocabSize, maxDifference: 0, relativeRms: 0, sameTop: 0 }
  let differences = 0
  let squares = 0
  for (let row = 0; row < found.rows; row++) {
    const a = ours.subarray(row * vocabSize, (row + 1) * vocabSize)
    const b = theirs.subarray(row * vocabSize, (row + 1) * vocabSize)
    for (let i = 0; i < vocabSize; i++) {
      const difference = Math.abs(at(a, i) - at(b, i))
      // Not Math.max: NaN must count as an infinite difference.
      if (!(difference <= found.maxDifference))
        found.maxDifference = Number.isNaN(difference) ? Infinity : difference
      differences += difference ** 2
      squares += at(b, i) ** 2
    }
    if (argmax(a) === argmax(b)) found.sameTop++
  }
  found.relativeRms = Math.sqrt(differences / squares)
  return found
}

function argmax(row: Float32Array): number {
  let best = 0
  for (let i = 1; i < row.length; i++) if (at(row, i) > at(row, best)) best = i
  return best
}

function at(row: Float32Array, index: number): number {
  return row[index] ?? Number.NaN
}
