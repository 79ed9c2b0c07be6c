import { AparError } from '../../../shared/errors.ts'
import { type Place, placesOf, type Segment } from '../../../shared/token-tree.ts'
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

/** @throws AparError when the segments of an example are not a tree of branches. */
export function placesOfExample(number: number, segments: readonly Segment[]): Place[] {
  try {
    return placesOf(segments)
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new AparError('invalid_request', `example ${number} of the shards: ${reason}`, { cause })
  }
}
