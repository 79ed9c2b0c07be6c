import type { BranchTree } from '../client/index.ts'

/** One branch in `providerMetadata.apar.branches` of a streamed answer. */
export type BranchMetadata = {
  branch: number
  /** null for the root. */
  parent: number | null
  /** UTF-16 code units of the parent's own text before the fork. */
  at: number
  /** The branch's own text, without its children's. */
  text: string
  /** Why it ended; null if the stream ended first. */
  reason: string | null
}

export function branchMetadata(tree: BranchTree): BranchMetadata[] {
  return tree.branches().map(({ id, parent, at, text, reason = null }) => {
    return { branch: id, parent, at, text, reason }
  })
}
