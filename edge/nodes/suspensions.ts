/** How long a node is suspended at first; the time doubles each time that it happens again, up to the maximum. */
const FIRST_MS = 60_000
const MAX_MS = 60 * 60_000
/** A node that has behaved for this long after a suspension starts again with the first time. */
const MEMORY_MS = 24 * 60 * 60_000

/** A reason may quote what the node sent. */
const MAX_REASON_CHARS = 200

/** Times are in ms since the epoch. */
export interface Suspension {
  readonly id: string
  /** The node gets no lease before. */
  readonly until: number
  /** How often in a row. */
  readonly times: number
  readonly code: string
  readonly reason: string
}

/**
 * The nodes that have sent what no honest node sends. Unlike one that fails, which the circuit breaker tries again soon,
 * such a node has no lease until its time is over: then its next heartbeat registers it as if it were new. Has no clock
 * and does no I/O.
 */
export class Suspensions {
  readonly #byId = new Map<string, Suspension>()

  /** `known`: from storage. */
  constructor(known: Iterable<Suspension>) {
    for (const suspension of known) this.#byId.set(suspension.id, suspension)
  }

  /** Streams of one node report the same trouble at the same time: that counts once, and undefined is returned. */
  add(id: string, why: { code: string; message: string }, now: number): Suspension | undefined {
    const before = this.#byId.get(id)
    if (before && before.until > now) return undefined
    const times = before && now - before.until <= MEMORY_MS ? before.times + 1 : 1
    const until = now + Math.min(MAX_MS, FIRST_MS * 2 ** (times - 1))
    const suspension = { id, until, times, code: why.code, reason: why.message.slice(0, MAX_REASON_CHARS) }
    this.#byId.set(id, suspension)
    return suspension
  }

  /** Time until the node may register; 0 when it may now. */
  leftMs(id: string, now: number): number {
    return Math.max(0, (this.#byId.get(id)?.until ?? 0) - now)
  }

  current(now: number): Suspension[] {
    return [...this.#byId.values()].filter(({ until }) => until > now)
  }

  /** Removes those that no longer matter; returns their nodes' ids. */
  forget(now: number): string[] {
    const ids = [...this.#byId.values()].filter(({ until }) => until + MEMORY_MS < now).map(({ id }) => id)
    for (const id of ids) this.#byId.delete(id)
    return ids
  }
}
