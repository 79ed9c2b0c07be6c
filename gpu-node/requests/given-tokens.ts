import type { BranchTree, TextEnd } from '../../shared/branch-tree.ts'

/** How many tokens a branch has: all, up to a length of its text, and up to the [Fork] of a child. */
export interface TokenCounts {
  all(branch: number): number
  upTo(branch: number, length: number): number
  upToFork(child: number): number
}

/**
 * The tokens of each branch that a client is given of an answer that a stop string has ended: those that precede its end
 * in document order, so that the load, which decides how far the later branches came, does not matter.
 */
export function givenTokens(tree: BranchTree, end: TextEnd, counts: TokenCounts): Map<number, number> {
  const given = new Map<number, number>()
  const addWhole = (id: number): void => {
    given.set(id, counts.all(id))
    for (const child of tree.branch(id)?.children ?? []) addWhole(child)
  }
  given.set(end.branch, counts.upTo(end.branch, end.at))
  for (const child of tree.branch(end.branch)?.children ?? []) {
    if ((tree.branch(child)?.at ?? 0) < end.at) addWhole(child)
  }
  for (let id = end.branch; ; ) {
    const parent = tree.branch(id)?.parent ?? null
    if (parent === null) return given
    given.set(parent, counts.upToFork(id))
    const children = tree.branch(parent)?.children ?? []
    for (const earlier of children.slice(0, children.indexOf(id))) addWhole(earlier)
    id = parent
  }
}
