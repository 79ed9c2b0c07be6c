import type { AcceptedEvent, BranchEndEvent, DeltaEvent, FinishReason, ForkEvent } from '../client/index.ts'

/** What a chunk of the API says of a branch. */
export type BranchEvent = Pick<AcceptedEvent, 'type' | 'joints'> | ForkEvent | DeltaEvent | BranchEndEvent

/** A chunk of a stream with `branch_deltas`, as docs/api.md describes it. */
interface Chunk {
  readonly id: string
  readonly choices: readonly { readonly delta?: { readonly content?: string } }[]
  readonly apar?:
    | { readonly event: 'accepted'; readonly joints: AcceptedEvent['joints'] }
    | { readonly event: 'fork'; readonly branch: number; readonly parent: number; readonly at: number }
    | { readonly event: 'delta'; readonly branch: number }
    | { readonly event: 'branch_end'; readonly branch: number; readonly reason: FinishReason }
    | { readonly event: 'trace' }
}

/** The name of the answer, and what a raw chunk says of one of its branches; undefined for other chunks. */
export function readChunk(raw: unknown): { answer: string; event: BranchEvent } | undefined {
  const chunk = raw as Chunk | null | undefined
  const event = chunk?.apar && eventOf(chunk, chunk.apar)
  return event && { answer: chunk.id, event }
}

function eventOf({ choices }: Chunk, address: NonNullable<Chunk['apar']>): BranchEvent | undefined {
  // The API's chunks are not numbered.
  const seq = 0
  switch (address.event) {
    case 'accepted':
      return { type: 'accepted', joints: address.joints }
    case 'fork':
      return { type: 'fork', seq, branch: address.branch, parent: address.parent, at: address.at }
    case 'delta':
      return { type: 'delta', seq, branch: address.branch, text: choices[0]?.delta?.content ?? '' }
    case 'branch_end':
      return { type: 'branch_end', seq, branch: address.branch, reason: address.reason }
    default:
      return undefined
  }
}
