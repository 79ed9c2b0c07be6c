import type { Limits } from '../../../shared/api-keys.ts'

/** A lease that is not renewed ends after this time: so long a slot stays taken after a crash. */
export const SOCKET_LEASE_MS = 150_000
/** Less than half of it: one renewal may fail. */
export const SOCKET_RENEW_MS = 60_000

/** Of a key whose limits do not say. In workerd an idle socket takes about half a MiB, compression included. */
const DEFAULT_SOCKETS = 512

/** Sockets that a key may have open at the same time. Each of its concurrent streams may have a socket of its own. */
export function socketsOf({ concurrent_sockets, concurrent_streams = 0 }: Limits): number {
  return concurrent_sockets ?? Math.max(DEFAULT_SOCKETS, concurrent_streams)
}

/** Open sockets of a key or an address. In memory only: after its loss, renewals bring the leases back. */
export class SocketLeases {
  /** By id, the end of each lease; the one that ends first comes first. */
  readonly #ends = new Map<string, number>()

  get size(): number {
    return this.#ends.size
  }

  /** False when `limit` sockets are open. */
  take(id: string, limit: number, now: number): boolean {
    this.#expire(now)
    if (this.#ends.size >= limit) return false
    this.renew(id, now)
    return true
  }

  /** Also for a socket that is not known: the leases may have been lost. */
  renew(id: string, now: number): void {
    this.#ends.delete(id)
    this.#ends.set(id, now + SOCKET_LEASE_MS)
  }

  release(id: string): void {
    this.#ends.delete(id)
  }

  #expire(now: number): void {
    for (const [id, end] of this.#ends) {
      // A lease that ends later than it could was taken before the clock was set back; its renewal brings it back.
      if (end > now && end <= now + SOCKET_LEASE_MS) return
      this.#ends.delete(id)
    }
  }
}
