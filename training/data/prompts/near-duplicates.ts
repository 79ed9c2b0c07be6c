const GRAM_WORDS = 3

/**
 * Finds texts that are nearly the same, by their word 3-grams: the likeness of two texts is the number of 3-grams that
 * both have over the number that either has (Jaccard), between 0 and 1.
 */
export class NearDuplicates {
  readonly #texts: Set<string>[] = []
  /** The texts that have a 3-gram. */
  readonly #having = new Map<string, number[]>()

  add(text: string): void {
    const grams = gramsOf(text)
    const number = this.#texts.push(grams) - 1
    for (const gram of grams) {
      const having = this.#having.get(gram)
      if (having) having.push(number)
      else this.#having.set(gram, [number])
    }
  }

  /** Likeness of the text here that is most like this one. */
  likeness(text: string): number {
    const grams = gramsOf(text)
    const shared = new Map<number, number>()
    for (const gram of grams)
      for (const number of this.#having.get(gram) ?? []) shared.set(number, (shared.get(number) ?? 0) + 1)
    let most = 0
    for (const [number, both] of shared) {
      const other = this.#texts[number]?.size ?? 0
      most = Math.max(most, both / (grams.size + other - both))
    }
    return most
  }
}

/** A short text has its beginning and its end as 3-grams, too. */
function gramsOf(text: string): Set<string> {
  const words = ['^', ...(text.toLowerCase().match(/[\p{L}\p{N}#]+|[+*/^]/gu) ?? []), '$']
  const grams = new Set<string>()
  for (let at = 0; at + GRAM_WORDS <= words.length; at++)
    grams.add(words.slice(at, at + GRAM_WORDS).join(' '))
  if (grams.size === 0) grams.add(words.join(' '))
  return grams
}
