/** Kinds of examples, as shards number them. In a serial one, [Fork] is banned from the loss. */
export const EXAMPLE_KINDS = ['structured', 'serial', 'unstructured'] as const
export type ExampleKind = (typeof EXAMPLE_KINDS)[number]

/** A run of tokens between forks. */
export interface Segment {
  /** Index within the example; -1: none. Parents come before their children. */
  parent: number
  ids: number[]
  /** Index within `ids` of runs in the loss: [from, to, from, to, …]. */
  learned: number[]
}

/** A conversation as a tree of segments: what a branch sees are the segments on its path. */
export interface Example {
  kind: ExampleKind
  segments: Segment[]
}

/** Tokens of the longest path from the root to a leaf. */
export function longestPath(segments: readonly Segment[]): number {
  const lengths: number[] = []
  for (const { parent, ids } of segments) lengths.push((lengths[parent] ?? 0) + ids.length)
  return lengths.reduce((longest, length) => Math.max(longest, length), 0)
}

export function tokenCount(segments: readonly Segment[]): number {
  return segments.reduce((sum, { ids }) => sum + ids.length, 0)
}
