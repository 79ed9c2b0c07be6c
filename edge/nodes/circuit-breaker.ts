import { CONNECT_TIMEOUT_MS } from './node-socket.ts'

/** Consecutive failures that open the circuit. */
const THRESHOLD = 3
/** A failure counts as the first again when it comes later than this after the last one and its pause. */
const MEMORY_MS = 30_000
/** How long the circuit is open at first; the time doubles with each further failure, up to the maximum. */
const FIRST_PAUSE_MS = 2_000
const MAX_PAUSE_MS = 60_000
/** A trial request without a reported failure for this long has succeeded: connecting never takes longer. */
const TRIAL_MS = CONNECT_TIMEOUT_MS + 1_000

interface Circuit {
  failures: number
  lastFailure: number
  /** No request is sent to the node before this time; after it, one trial request is (half-open). */
  openUntil: number
  /** When the trial request was sent. */
  trialAt?: number
}

/** Sends no requests to nodes that keep failing, even if their heartbeats arrive. */
export class CircuitBreaker {
  readonly #circuits = new Map<string, Circuit>()

  failed(id: string, now: number): void {
    const known = this.#circuits.get(id)
    const recent = known && now - Math.max(known.lastFailure, known.openUntil) <= MEMORY_MS
    const failures = (recent ? known.failures : 0) + 1
    const pause = Math.min(MAX_PAUSE_MS, FIRST_PAUSE_MS * 2 ** (failures - THRESHOLD))
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

  /** Call when a request is sent to the node. After a pause it is the trial request, and no other is allowed. */
  sent(id: string, now: number): void {
    const circuit = this.#circuits.get(id)
    if (!circuit || circuit.failures < THRESHOLD) return
    // The last trial request did not fail: the circuit closes.
    if (circuit.trialAt !== undefined && circuit.lastFailure < circuit.trialAt) {
      this.#circuits.delete(id)
      return
    }
    circuit.trialAt = now
    circuit.openUntil = now + TRIAL_MS
  }

  forget(id: string): void {
    this.#circuits.delete(id)
  }
}
