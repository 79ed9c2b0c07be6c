import { BranchTree } from '../../shared/branch-tree.ts'
import type { Joints } from '../../shared/protocol/events.ts'
import type { TraceStep } from '../../shared/protocol/trace.ts'
import { TraceEvents } from '../../shared/trace-events.ts'

/** The answer of a trace as it grows, step by step. */
export class Replay {
  readonly tree: BranchTree
  readonly #events = new TraceEvents()

  constructor(joints: Joints) {
    this.tree = new BranchTree(joints)
  }

  advance(step: TraceStep): void {
    for (const event of this.#events.advance(step)) this.tree.apply(event)
  }
}
