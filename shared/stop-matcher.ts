export interface Matched {
  /** Text that cannot be part of a match. */
  text: string
  /** True when a stop string is complete; do not push more text then. */
  stopped: boolean
  /** That stop string, as it is matched: well-formed. */
  stop?: string
  /** UTF-16 code units of the pushed text that follow the match. */
  rest?: number
}

interface Match {
  readonly stop: string
  readonly start: number
  readonly end: number
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
      const { stop, start, end } = match
      const text = seen.slice(given, Math.max(given, start))
      return { text, stopped: true, stop, rest: seen.length - end }
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

  /** The match that ends first after `from`. */
  #firstMatch(seen: string, from: number): Match | undefined {
    let first: Match | undefined
    for (const stop of this.#stops) {
      const start = seen.indexOf(stop, Math.max(0, from - stop.length + 1))
      if (start === -1) continue
      const end = start + stop.length
      if (!first || end < first.end || (end === first.end && start < first.start))
        first = { stop, start, end }
    }
    return first
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
