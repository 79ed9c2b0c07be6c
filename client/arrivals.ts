/** Must stay well below 256, the most unacknowledged events that the edge sends. */
const ACK_EVERY = 32

/**
 * Counts what has arrived of a stream and what its reader has taken, and says what to acknowledge. While somebody reads
 * the events, only what was taken is acknowledged: the edge then sends a slow reader no more than its window, and merges
 * what follows.
 */
export class Arrivals {
  /** Number of the last event that has arrived; -1 before the first one. */
  lastSeq: number
  /** Whether somebody reads the events one by one. */
  reading = false
  #acked: number
  #arrived = 0
  #taken = 0
  #takenSeq: number
  /** Frames not completely taken: how many events have arrived with their last one, and its number. */
  readonly #frames: { arrived: number; seq: number }[] = []

  constructor(after: number) {
    this.lastSeq = after
    this.#acked = after
    this.#takenSeq = after
  }

  /** The reader has all events up to {@link lastSeq}. */
  get allTaken(): boolean {
    return this.#taken === this.#arrived
  }

  /** A frame with `count` events, numbered `first` to `last`, has arrived. @throws Error when they are not the next ones. */
  arrive(first: number, last: number, count: number): void {
    if (first !== this.lastSeq + 1) throw new Error(`event ${first} after ${this.lastSeq}`)
    this.lastSeq = last
    this.#arrived += count
    this.#frames.push({ arrived: this.#arrived, seq: last })
  }

  take(): void {
    this.#taken++
    for (;;) {
      const [frame] = this.#frames
      if (!frame || frame.arrived > this.#taken) return
      this.#takenSeq = frame.seq
      this.#frames.shift()
    }
  }

  /** The number to acknowledge now, if it is time. */
  due(): number | undefined {
    const seq = this.reading ? this.#takenSeq : this.lastSeq
    if (seq - this.#acked < ACK_EVERY) return undefined
    this.#acked = seq
    return seq
  }
}
