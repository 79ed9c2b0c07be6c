import { EVENT, EVENT_WIDTH } from '../../gpu-node/engine/engine-events.ts'

/** Counts an engine's events and lets a bench wait for a count. */
export class EventCounter {
  #tokens = 0
  #finished = 0
  #failure: string | undefined
  #wake = () => {}

  readonly onEvents = (rows: Int32Array, failure?: string): void => {
    for (let row = 0; row < rows.length; row += EVENT_WIDTH) {
      if (rows[row] === EVENT.TOKEN) this.#tokens++
      else if (rows[row] === EVENT.FINISH) this.#finished++
    }
    this.#failure = failure
    this.#wake()
  }

  get tokens(): number {
    return this.#tokens
  }

  get finished(): number {
    return this.#finished
  }

  /** Waits until `done` returns true. @throws Error when the engine has failed. */
  async until(done: (counter: EventCounter) => boolean): Promise<void> {
    while (!done(this)) {
      if (this.#failure !== undefined) throw new Error(this.#failure)
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
  }
}
