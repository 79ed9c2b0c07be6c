import type { StreamEvent } from './protocol/types/events.ts'
import type { TraceStep } from './protocol/types/trace.ts'

/** Turns the steps of a trace into the events of its answer: deltas, forks, ends. */
export class TraceEvents {
  readonly #lengths = new Map<number, number>()
  #seq: number

  /** `seq`: number of the first event. */
  constructor(seq = 0) {
    this.#seq = seq
  }

  /** What a step gave, in the order in which it can be applied: a branch gets no more text behind its [Fork] in one step. */
  advance({ tokens, forks, ends }: TraceStep): StreamEvent[] {
    const events: StreamEvent[] = []
    const begun = new Set(forks.map(({ branch }) => branch))
    const addText = (isNew: boolean) => {
      for (const { branch, text } of tokens) {
        if (begun.has(branch) !== isNew || text === '') continue
        events.push({ type: 'delta', seq: this.#seq++, branch, text })
        this.#lengths.set(branch, this.#length(branch) + text.length)
      }
    }
    addText(false)
    for (const { branch, parent } of forks)
      events.push({ type: 'fork', seq: this.#seq++, branch, parent, at: this.#length(parent) })
    addText(true)
    for (const { branch, reason } of ends)
      events.push({ type: 'branch_end', seq: this.#seq++, branch, reason })
    return events
  }

  #length(branch: number): number {
    return this.#lengths.get(branch) ?? 0
  }
}
