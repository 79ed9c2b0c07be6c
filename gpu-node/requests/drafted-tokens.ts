import { type Drafts, MAX_DRAFT_HEADS, type SpeculationUsage } from '../../shared/protocol/speculation.ts'
import { DEPTH_STEP, DRAFT_SOURCE } from '../engine/engine-events.ts'

/** What was drafted for one request, from the SPECULATION rows of all engines that computed it. */
export class DraftedTokens {
  readonly #total: Drafts = none()
  readonly #heads: Drafts[] = []
  #ngram: Drafts | undefined

  /** The row's numbers, as EVENT.SPECULATION defines them. A source that is not known here counts in the totals only. */
  add(place: number, drafted: number, accepted: number): void {
    const source = place % DEPTH_STEP
    const depth = Math.floor(place / DEPTH_STEP)
    count(this.#total, drafted, accepted)
    if (source === DRAFT_SOURCE.NGRAM) {
      this.#ngram ??= none()
      count(this.#ngram, drafted, accepted)
    } else if (source === DRAFT_SOURCE.HEADS && depth < MAX_DRAFT_HEADS) {
      while (this.#heads.length <= depth) this.#heads.push(none())
      const head = this.#heads[depth]
      if (head) count(head, drafted, accepted)
    }
  }

  /** Undefined when nothing was drafted. */
  get usage(): SpeculationUsage | undefined {
    if (this.#total.drafted === 0) return undefined
    return {
      ...this.#total,
      ...(this.#heads.length > 0 && { heads: this.#heads.map((head) => ({ ...head })) }),
      ...(this.#ngram && { ngram: { ...this.#ngram } }),
    }
  }
}

function none(): Drafts {
  return { drafted: 0, accepted: 0 }
}

function count(drafts: Drafts, drafted: number, accepted: number): void {
  drafts.drafted += drafted
  drafts.accepted += accepted
}
