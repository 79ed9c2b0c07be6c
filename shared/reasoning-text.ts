import { OrderedText } from './branch-tree.ts'
import type { Joints, StreamEvent } from './protocol/types/events.ts'

/**
 * Turns a stream's events into its reasoning in document order, as OrderedText does with the text. The branches that
 * reason are a tree of their own: the root, and what was forked while its parent was reasoning.
 */
export class ReasoningText {
  readonly #ordered: OrderedText
  readonly #branches = new Set([0])

  constructor(joints: Joints = 'kept') {
    this.#ordered = new OrderedText(joints)
  }

  /** The reasoning that became final with this event; often ''. */
  push(event: StreamEvent): string {
    const own = this.#own(event)
    return own ? this.#ordered.push(own) : ''
  }

  /** All that was received so far; branches that have not ended are included as they are. */
  text(): string {
    return this.#ordered.tree.text()
  }

  /** The event as one of the tree; undefined for others. */
  #own(event: StreamEvent): StreamEvent | undefined {
    switch (event.type) {
      case 'accepted':
      case 'error':
        return event
      case 'done':
        return { ...event, text_length: undefined }
      case 'reasoning':
        return { ...event, type: 'delta' }
      case 'fork': {
        if (event.reasoning_at === undefined) return undefined
        this.#branches.add(event.branch)
        return { ...event, at: event.reasoning_at, reasoning_at: undefined }
      }
      case 'branch_end':
        return this.#branches.has(event.branch) ? event : undefined
      default:
        return undefined
    }
  }
}
