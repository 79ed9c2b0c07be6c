import { AparError } from '../../shared/errors.ts'

/**
 * Of all prompts that wait or are being encoded, in UTF-16 code units. This much is encoded within about the time that a
 * prompt waits at most, and is twice the longest request.
 */
const MAX_WAITING = 4 * 1024 * 1024
/** What a tenant with less than its equal part of MAX_WAITING may add when the others have used it up. */
const MAX_WAITING_OF_MANY = 2 * MAX_WAITING

/** How much text each tenant has in the queues of prompts. */
export class WaitingText {
  readonly #units = new Map<string, number>()
  #total = 0
  #prompts = 0

  /** Prompts that wait or are being encoded. */
  get prompts(): number {
    return this.#prompts
  }

  /** @throws AparError `overloaded` */
  add(tenant: string, units: number): void {
    const own = (this.#units.get(tenant) ?? 0) + units
    const total = this.#total + units
    const tenants = this.#units.size + (this.#units.has(tenant) ? 0 : 1)
    const isFair = own <= MAX_WAITING / tenants && total <= MAX_WAITING_OF_MANY
    if (this.#prompts > 0 && total > MAX_WAITING && !isFair) {
      throw new AparError('overloaded', 'too many prompts wait to be encoded', { retryAfterSeconds: 1 })
    }
    this.#units.set(tenant, own)
    this.#total = total
    this.#prompts++
  }

  remove(tenant: string, units: number): void {
    const left = (this.#units.get(tenant) ?? 0) - units
    if (left > 0) this.#units.set(tenant, left)
    else this.#units.delete(tenant)
    this.#total -= units
    this.#prompts--
  }
}
