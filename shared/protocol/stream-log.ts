import { AparError } from '../errors.ts'
import { isTerminal, type StreamEvent } from './events.ts'
import type { NodeBatch } from './node.ts'

/** A stream's events and how they came about, in order and without gaps; at the gpu node as well as at the edge. */
export class StreamLog {
  readonly #events: StreamEvent[] = []
  readonly #batches: { rows: number[]; end: number }[] = []

  constructor(batches: readonly NodeBatch[] = []) {
    for (const batch of batches) this.append(batch)
  }

  /** The number of the next event. */
  get nextSeq(): number {
    return this.#events.length
  }

  get last(): StreamEvent | undefined {
    return this.#events.at(-1)
  }

  get ended(): boolean {
    return this.last !== undefined && isTerminal(this.last)
  }

  /** @throws AparError `invalid_request` when its events are not the next ones; nothing is appended then. */
  append({ rows, events }: NodeBatch): void {
    if (this.ended) throw outOfOrder('a batch after the last event')
    events.forEach((event, index) => {
      const next = this.nextSeq + index
      if (event.seq !== next) throw outOfOrder(`event ${event.seq} instead of ${next}`)
      if (isTerminal(event) && index < events.length - 1) throw outOfOrder('an event after the last')
    })
    this.#events.push(...events)
    this.#batches.push({ rows, end: this.nextSeq })
  }

  /** The events behind number `after`; -1 gives all. */
  since(after: number): readonly StreamEvent[] {
    return this.#events.slice(after + 1)
  }

  /** The same in batches; a batch that `after` cuts is given from there, with all its rows. */
  batchesSince(after: number): NodeBatch[] {
    const batches: NodeBatch[] = []
    let begin = 0
    for (const { rows, end } of this.#batches) {
      if (end > after + 1) batches.push({ rows, events: this.#events.slice(Math.max(begin, after + 1), end) })
      begin = end
    }
    return batches
  }
}

/** Whoever sent it is at fault: a gpu node, or an edge that moves a stream. */
function outOfOrder(what: string): AparError {
  return new AparError('invalid_request', `log: ${what}`, { param: 'log' })
}
