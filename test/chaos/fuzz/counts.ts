/** Number of inputs by boundary. */
export class Counts {
  readonly #byName = new Map<string, number>()

  add(name: string, inputs: number): void {
    this.#byName.set(name, (this.#byName.get(name) ?? 0) + inputs)
  }

  get total(): number {
    return [...this.#byName.values()].reduce((sum, inputs) => sum + inputs, 0)
  }

  *[Symbol.iterator](): Generator<readonly [name: string, inputs: number]> {
    yield* this.#byName
  }

  toJSON(): Record<string, number> {
    return Object.fromEntries(this.#byName)
  }
}
