interface Waiter<T> {
  resolve: (result: IteratorResult<T, undefined>) => void
  reject: (error: Error) => void
}

/** An async queue: values are pushed at any time and read with `for await`, until it ends or fails. */
export class EventQueue<T> implements AsyncIterator<T, undefined> {
  readonly #values: T[] = []
  readonly #waiters: Waiter<T>[] = []
  #end: { error: Error | undefined } | undefined

  push(value: T): void {
    if (this.#end) return
    const waiter = this.#waiters.shift()
    if (waiter) waiter.resolve({ value, done: false })
    else this.#values.push(value)
  }

  /** Values pushed before are still delivered; then the reader's loop ends, or throws `error`. */
  end(error?: Error): void {
    if (this.#end) return
    this.#end = { error }
    for (const waiter of this.#waiters.splice(0)) this.#settle(waiter, error)
  }

  next(): Promise<IteratorResult<T, undefined>> {
    return new Promise((resolve, reject) => {
      const value = this.#values.shift()
      if (value !== undefined) resolve({ value, done: false })
      else if (this.#end) this.#settle({ resolve, reject }, this.#end.error)
      else this.#waiters.push({ resolve, reject })
    })
  }

  #settle({ resolve, reject }: Waiter<T>, error: Error | undefined): void {
    if (error) reject(error)
    else resolve({ value: undefined, done: true })
  }
}
