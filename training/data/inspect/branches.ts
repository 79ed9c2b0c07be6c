import type { ShardExample } from '../shards/reader.ts'

/** The branch of each segment of an example: a segment that begins with [Child] begins a branch. */
export function branchesOf({ segments }: ShardExample, child: number): number[] {
  const branches: number[] = []
  let last = 0
  for (const { parent, tokens } of segments) {
    const begins = parent !== undefined && tokens[0] === child
    branches.push(begins ? ++last : (branches[parent ?? -1] ?? 0))
  }
  return branches
}
