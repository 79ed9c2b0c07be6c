/**
 * A waiting prompt goes before one of the same tenant that came earlier and is so much longer that it would take longer
 * to encode than the time between the two. So no prompt waits for ever.
 */
const AGEING_MS_PER_UNIT = 0.01

export interface QueuedPrompt {
  readonly tenant: string
  /** UTF-16 code units. */
  readonly units: number
}

/**
 * Prompts that wait for one process. Next is always the tenant of which the fewest characters have been encoded since it
 * has waited, so that many or long prompts of one tenant delay each of the others by one of them at most.
 */
export class PromptQueue<P extends QueuedPrompt> {
  /** With the times by which the prompts of one tenant are ordered. */
  readonly #waiting = new Map<P, number>()
  /** Code units taken for each tenant; for one that is not here, or has less, `#level`. */
  readonly #taken = new Map<string, number>()
  /** What the tenant of the last prompt had before it. A tenant that comes now is not owed what it did not wait for. */
  #level = 0

  get size(): number {
    return this.#waiting.size
  }

  add(prompt: P): void {
    this.#waiting.set(prompt, performance.now() + prompt.units * AGEING_MS_PER_UNIT)
  }

  /** False when the prompt does not wait here any more. */
  remove(prompt: P): boolean {
    return this.#waiting.delete(prompt)
  }

  take(): P | undefined {
    const [first, ...others] = this.#waiting.keys()
    if (!first) {
      this.#taken.clear()
      this.#level = 0
      return undefined
    }
    const next = others.reduce((best, prompt) => (this.#isBefore(prompt, best) ? prompt : best), first)
    this.#waiting.delete(next)
    this.#level = this.#takenOf(next.tenant)
    this.#taken.set(next.tenant, this.#level + next.units)
    for (const [tenant, taken] of this.#taken) if (taken <= this.#level) this.#taken.delete(tenant)
    return next
  }

  #isBefore(a: P, b: P): boolean {
    const [takenOfA, takenOfB] = [this.#takenOf(a.tenant), this.#takenOf(b.tenant)]
    if (takenOfA !== takenOfB) return takenOfA < takenOfB
    return (this.#waiting.get(a) ?? 0) < (this.#waiting.get(b) ?? 0)
  }

  #takenOf(tenant: string): number {
    return Math.max(this.#level, this.#taken.get(tenant) ?? 0)
  }
}
