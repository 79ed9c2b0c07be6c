export interface Matched {
  /** Text that is certain not to be part of a match. */
  text: string
  /** True once a stop string is complete; push nothing more. */
  stopped: boolean
}

/**
 * Finds the first stop string in a text that comes in pieces. The end of the text is held back while it may be the
 * beginning of a match. The result does not depend on how the text is cut: of several matches the one that is
 * complete first counts, and of those that end together the longest.
 */
export class StopMatcher {
  readonly #stops: readonly string[]
  readonly #memory: number
  /** The last characters pushed, as many as a match could need. */
  #tail = ''
  /** Of the tail, how many characters at its end have not been given out. */
  #held = 0

  constructor(stops: readonly string[]) {
    this.#stops = stops.map((stop) => stop.toWellFormed())
    this.#memory = Math.max(0, ...this.#stops.map((stop) => stop.length - 1))
  }

  push(text: string): Matched {
    if (this.#stops.length === 0) return { text, stopped: false }
    const seen = this.#tail + text
    const given = this.#tail.length - this.#held
    const match = this.#firstMatch(seen, this.#tail.length)
    if (match !== undefined) {
      this.#held = 0
      return { text: seen.slice(given, Math.max(given, match)), stopped: true }
    }
    const hold = Math.min(this.#possibleStart(seen), seen.length - given)
    this.#tail = this.#memory === 0 ? '' : seen.slice(-this.#memory)
    this.#held = hold
    return { text: seen.slice(given, seen.length - hold), stopped: false }
  }

  /**
   * Gives out what is held: the text ends here, or a fork needs to know how much text stands before it. A match
   * that began before and ends after still counts, but what was given out cannot be taken back.
   */
  release(): string {
    const text = this.#tail.slice(this.#tail.length - this.#held)
    this.#held = 0
    return text
  }

  /** Where the match begins that ends first, after `from`. */
  #firstMatch(seen: string, from: number): number | undefined {
    let firstEnd = Number.POSITIVE_INFINITY
    let start: number | undefined
    for (const stop of this.#stops) {
      const index = seen.indexOf(stop, Math.max(0, from - stop.length + 1))
      if (index === -1) continue
      const end = index + stop.length
      if (end < firstEnd || (end === firstEnd && index < (start ?? 0))) {
        firstEnd = end
        start = index
      }
    }
    return start
  }

  /** Length of the longest end of `seen` with which a stop string begins. */
  #possibleStart(seen: string): number {
    for (let length = Math.min(this.#memory, seen.length); length > 0; length--) {
      const end = seen.slice(-length)
      if (this.#stops.some((stop) => stop.length > length && stop.startsWith(end))) return length
    }
    return 0
  }
}
