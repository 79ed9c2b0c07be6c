import { setImmediate as nextTurn } from 'node:timers/promises'

/** Parsing as much takes less than a millisecond. */
const LARGE_BYTES = 64 * 1024

/**
 * Gives each large frame a turn of the event loop of its own. A long prompt takes 10 ms and more to parse; without this,
 * all those that have arrived together are parsed in one turn, and heartbeats, cancels and tokens wait for all of them.
 */
export class LargeFrames {
  #last: Promise<void> = Promise.resolve()

  /** Undefined for a frame that needs no turn of its own. */
  turnFor(frame: unknown): Promise<void> | undefined {
    const { length } = frame as Buffer | string
    if (length <= LARGE_BYTES) return undefined
    this.#last = this.#last.then(() => nextTurn())
    return this.#last
  }
}
