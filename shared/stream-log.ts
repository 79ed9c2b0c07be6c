import { AparError } from './errors.ts'
import { isTerminal, type StreamEvent } from './protocol/events.ts'
import type { NodeBatch } from './protocol/node.ts'

/** An event, and with the last one of a batch its rows. */
export type EventWithRows = StreamEvent & { readonly rows?: readonly number[] | undefined }

/**
 * The log of a stream: its batches (events and engine rows), in order and without gaps. Kept by the gpu node and
 * by the edge.
 */
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

  /** @throws AparError `invalid_request`, and appends nothing, when the batch does not continue the log. */
  append({ rows, events }: NodeBatch): void {
    if (this.ended) throw outOfOrder('a batch after the last event')
    events.forEach((event, index) => {
      const next = this.nextSeq + index
      if (event.seq !== next) throw outOfOrder(`event ${event.seq} instead of ${next}`)
      if (isTerminal(event) && index < events.length - 1) throw outOfOrder('an event after the last')
    })
    // A spread of very many events would exceed the stack.
    for (const event of events) this.#events.push(event)
    this.#batches.push({ rows, end: this.nextSeq })
  }

  /** The events after number `after`; -1 gives all. */
  since(after: number): readonly StreamEvent[] {
    return this.#events.slice(after + 1)
  }

  /** The same with the rows of their batches: who reads on behind the last event gets each row once. */
  withRowsSince(after: number): EventWithRows[] {
    return this.batchesSince(after).flatMap(({ rows, events }) => [
      ...events.slice(0, -1),
      ...events.slice(-1).map((last) => ({ ...last, rows })),
    ])
  }

  /** The same as batches. If `after` lies inside a batch, that batch has only its later events, but all its rows. */
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

/** The sender of the batch is at fault: a gpu node, or an edge that moves a stream. */
function outOfOrder(what: string): AparError {
  return new AparError('invalid_request', `log: ${what}`, { param: 'log' })
}
