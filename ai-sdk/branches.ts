import type { BranchPiece } from './branch-parts.ts'

/** One branch as a message has it until now. */
export interface ShownBranch extends BranchPiece {
  /** For lists: the same for as long as the branch grows, and for no other branch. */
  key: string
}

/** The branches of a message, each with its own text, in the order in which they began. */
export function branchesOf(message: {
  readonly parts: readonly { readonly type: string; readonly data?: unknown }[]
}): ShownBranch[] {
  const branches = new Map<string, ShownBranch>()
  for (const { type, data } of message.parts) {
    if (type !== 'data-branch') continue
    const piece = data as BranchPiece
    const key = `${piece.answer}-${piece.branch}`
    const before = branches.get(key)
    branches.set(key, { ...piece, key, text: (before?.text ?? '') + piece.text })
  }
  return [...branches.values()]
}
