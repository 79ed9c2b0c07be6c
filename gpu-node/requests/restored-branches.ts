import { ROW_WIDTH } from '../../shared/protocol/node.ts'
import { EVENT, FINISH } from '../engine/engine-events.ts'
import type { RestoredBranch } from '../engine/engine-request.ts'

/**
 * Rebuilds the branches of a stream from the rows of its log. `hasEnded` returns whether a branch has ended for the
 * client, also at a stop string, which the rows may not show; it returns undefined for a branch that the client
 * never saw.
 */
export function restoredBranches(
  rows: readonly number[],
  hasEnded: (branch: number) => boolean | undefined,
): RestoredBranch[] {
  const found = new Map<number, { parent: number; forkPosition: number; tokens: number[]; ended: number }>()
  found.set(0, { parent: -1, forkPosition: -1, tokens: [], ended: 0 })
  for (let row = 0; row + ROW_WIDTH <= rows.length; row += ROW_WIDTH) {
    const [kind, branch = 0, a = 0, b = 0] = rows.slice(row, row + ROW_WIDTH)
    if (kind === EVENT.TOKEN) found.get(branch)?.tokens.push(a)
    else if (kind === EVENT.FORK) found.set(a, { parent: branch, forkPosition: b, tokens: [], ended: 0 })
    else if (kind === EVENT.BRANCH_END) {
      const ended = found.get(branch)
      if (ended) ended.ended = a
    }
  }
  return [...found]
    .filter(([id]) => hasEnded(id) !== undefined)
    .sort(([a], [b]) => a - b)
    .map(([id, { tokens, ended, ...place }]) => ({
      id,
      ...place,
      tokens: Int32Array.from(tokens),
      ended: ended === 0 && hasEnded(id) ? FINISH.STOP : ended,
    }))
}
