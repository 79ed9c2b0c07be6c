export interface Matched {
  /** Text that cannot be part of a match. */
  text: string
  /** True when a stop string is complete; do not push more text then. */
  stopped: boolean
}

/**
 * Finds the first stop string in streamed text. The end of the text is held back while it could be the start of a
 * match. The result does not depend on how the text is split into pieces: of several matches the one that ends
 * first wins, and of those that end at the same place the longest.
 */
export class StopMatcher {
  readonly #stops: readonly string[]
  readonly #memory: number
  /** The last characters pushed, as many as a later match could include. */
  #tail = ''
  /** How many characters at the end of the tail are held back. */
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
   * Releases the held text, at the end of the text or at a fork, whose position must be final. A match that
   * started before and ends later still stops the branch, but released text stays sent.
   */
  release(): string {
    const text = this.#tail.slice(this.#tail.length - this.#held)
    this.#held = 0
    return text
  }

  /** Start of the match that ends first after `from`. */
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

  /** Length of the longest suffix of `seen` that is a prefix of a stop string. */
  #possibleStart(seen: string): number {
    for (let length = Math.min(this.#memory, seen.length); length > 0; length--) {
      const end = seen.slice(-length)
      if (this.#stops.some((stop) => stop.length > length && stop.startsWith(end))) return length
    }
    return 0
  }
}
