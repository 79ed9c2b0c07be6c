/** Something that grows until it has ended or failed: any number of loops read what is there, and wait for more. */
export class Growth {
  #waiting: (() => void)[] = []
  #ended = false
  #failure: Error | undefined

  get ended(): boolean {
    return this.#ended
  }

  /** There may be more to read. */
  announce(): void {
    const waiting = this.#waiting
    this.#waiting = []
    for (const wake of waiting) wake()
  }

  end(failure?: Error): void {
    this.#ended = true
    this.#failure = failure
    this.announce()
  }

  /**
   * Yields what `more` finds, until `complete`, or until the end.
   * @throws the failure, after what was there before it.
   */
  async *read(
    more: (ended: boolean) => string,
    complete: () => boolean,
  ): AsyncGenerator<string, void, undefined> {
    for (;;) {
      const ended = this.#ended
      const last = complete()
      const text = more(ended)
      if (text !== '') yield text
      if (last) return
      if (ended && this.#failure) throw this.#failure
      if (ended) return
      if (text === '') await new Promise<void>((resolve) => this.#waiting.push(resolve))
    }
  }
}
