import { CONNECT_TIMEOUT_MS } from './node-socket.ts'

/** Failures in a row that open the circuit. */
const THRESHOLD = 3
/** Failures further apart than this have nothing to do with each other. */
const MEMORY_MS = 30_000
const FIRST_PAUSE_MS = 2_000
const LAST_PAUSE_MS = 60_000
/** When nothing was heard of a request that tried for so long, it has not failed: connecting takes no longer. */
const TRIAL_MS = CONNECT_TIMEOUT_MS + 1_000

interface Circuit {
  failures: number
  lastFailure: number
  /** Nobody is sent there before; then one request tries. */
  openUntil: number
  /** When that one went. */
  probedAt?: number
}

/** Keeps requests from nodes that keep failing, however often these say that they are well. */
export class CircuitBreaker {
  readonly #circuits = new Map<string, Circuit>()

  failed(id: string, now: number): void {
    const known = this.#circuits.get(id)
    const recent = known && now - Math.max(known.lastFailure, known.openUntil) <= MEMORY_MS
    const failures = (recent ? known.failures : 0) + 1
    const pause = Math.min(LAST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** (failures - THRESHOLD))
    this.#circuits.set(id, {
      failures,
      lastFailure: now,
      openUntil: failures >= THRESHOLD ? now + pause : 0,
    })
  }

  allows(id: string, now: number): boolean {
    const circuit = this.#circuits.get(id)
    return !circuit || circuit.openUntil <= now
  }

  /** A request goes to the node: after a pause it is the only one until it is known how that went. */
  sent(id: string, now: number): void {
    const circuit = this.#circuits.get(id)
    if (!circuit || circuit.failures < THRESHOLD) return
    // The last one that tried did not fail.
    if (circuit.probedAt !== undefined && circuit.lastFailure < circuit.probedAt) {
      this.#circuits.delete(id)
      return
    }
    circuit.probedAt = now
    circuit.openUntil = now + TRIAL_MS
  }

  forget(id: string): void {
    this.#circuits.delete(id)
  }
}
