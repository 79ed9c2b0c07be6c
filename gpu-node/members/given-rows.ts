import { EVENT, FINISH } from '../engine/engine-events.ts'
import type { KnownTexts } from './known-texts.ts'
import { BETWEEN, type ObjectBranch, type PlannedBranch } from './member-plan.ts'

/** What is known of an answer before anything is decoded. */
export interface Given {
  /** As those of a log (NodeBatch): the branches with their tokens, and the ends of those without values. */
  readonly rows: readonly number[]
  /** Of all branches. */
  readonly tokens: number
  /** The most tokens that a branch has which goes on. */
  readonly longest: number
}

/** A branch, and the position of its first token in its path. */
interface Placed {
  readonly id: number
  readonly branch: PlannedBranch
  readonly at: number
}

/**
 * Children of one object begin at the same place, behind its first bracket: a member knows the keys of the objects that it is
 * in, and none of the others. `promptTokens`: of the request. undefined when a text has no tokens.
 */
export async function givenRows(
  plan: ObjectBranch,
  texts: KnownTexts,
  promptTokens: number,
): Promise<Given | undefined> {
  const rows: number[] = []
  let tokens = 0
  let longest = 0
  const add = (branch: number, ids: readonly number[]) => {
    for (const id of ids) rows.push(EVENT.TOKEN, branch, id, 0)
    tokens += ids.length
  }
  const placed: Placed[] = [{ id: 0, branch: plan, at: promptTokens }]
  for (const { id, branch, at } of placed) {
    if ('key' in branch) {
      const key = await texts.tokens('{"', branch.key)
      if (!key) return undefined
      add(id, key)
      longest = Math.max(longest, key.length)
      continue
    }
    const { open, children, close } = branch
    const opening = await texts.tokens(id === 0 ? '\n' : '{"', open)
    const between = await texts.tokens(',', BETWEEN)
    const closing = close === '' ? [] : await texts.tokens('}', close)
    if (!opening || !between || !closing) return undefined
    add(id, opening)
    for (const [index, child] of children.entries()) {
      if (index > 0) add(id, between)
      const fork = at + opening.length - 1
      rows.push(EVENT.FORK, id, placed.length, fork)
      placed.push({ id: placed.length, branch: child, at: fork + 1 })
    }
    add(id, closing)
    rows.push(EVENT.BRANCH_END, id, FINISH.STOP, 0)
  }
  return { rows, tokens, longest }
}
