import { BranchTree } from '../../shared/branch-tree.ts'
import type { Joints, StreamEvent } from '../../shared/protocol/events.ts'
import type { TraceStep } from '../../shared/protocol/trace.ts'

/** The answer of a trace as it grows, step by step. */
export class Replay {
  readonly tree: BranchTree
  #seq = 0

  constructor(joints: Joints) {
    this.tree = new BranchTree(joints)
  }

  /** Adds what a step gave. A branch gets no more text behind its [Fork] in the same step. */
  advance({ tokens, forks, ends }: TraceStep): void {
    const apply = (event: StreamEvent) => this.tree.apply(event)
    const begun = new Set(forks.map(({ branch }) => branch))
    const addText = (isNew: boolean) => {
      for (const { branch, text } of tokens) {
        if (begun.has(branch) === isNew && text !== '')
          apply({ type: 'delta', seq: this.#seq++, branch, text })
      }
    }
    addText(false)
    for (const { branch, parent } of forks) {
      const at = this.tree.branch(parent)?.text.length ?? 0
      apply({ type: 'fork', seq: this.#seq++, branch, parent, at })
    }
    addText(true)
    for (const { branch, reason } of ends) apply({ type: 'branch_end', seq: this.#seq++, branch, reason })
  }
}
