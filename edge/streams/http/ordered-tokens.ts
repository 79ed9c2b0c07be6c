import { ROW_KIND, ROW_WIDTH } from '../../../shared/protocol/node.ts'

interface BranchTokens {
  readonly ids: number[]
  /** A child begins behind the first `at` of them. */
  readonly forks: { readonly at: number; readonly child: BranchTokens }[]
  ended: boolean
  endToken?: number
}

interface Reading {
  readonly branch: BranchTokens
  position: number
  nextFork: number
}

/**
 * The ids of an answer's tokens in document order, from the rows of its batches: those of a child stand between its
 * parent's before and behind the fork, and the token that ended a branch behind all others of it.
 */
export class OrderedTokens {
  readonly #branches = new Map<number, BranchTokens>()
  /** From the root to the branch that is read. */
  readonly #path: Reading[] = []
  /** How many were taken, of those that did not end a branch. */
  #taken = 0

  constructor() {
    this.#path.push(newReading(this.#add(0)))
  }

  /** Rows about unknown branches are ignored, as the texts of such are. */
  push(rows: readonly number[]): void {
    for (let row = 0; row + ROW_WIDTH <= rows.length; row += ROW_WIDTH) {
      const [kind, id = 0, a = 0, b = 0] = rows.slice(row, row + ROW_WIDTH)
      const branch = this.#branches.get(id)
      if (!branch) continue
      if (kind === ROW_KIND.TOKEN) branch.ids.push(a)
      else if (kind === ROW_KIND.FORK && !this.#branches.has(a))
        branch.forks.push({ at: branch.ids.length, child: this.#add(a) })
      else if (kind === ROW_KIND.BRANCH_END) {
        branch.ended = true
        if (b > 0) branch.endToken = b - 1
      }
    }
  }

  /**
   * Those that no other can come before, and that were not taken yet. `over`: no more come. `most`: how many the answer has
   * that did not end a branch.
   */
  take(over = false, most = Number.POSITIVE_INFINITY): number[] {
    const out: number[] = []
    for (let reading = this.#path.at(-1); reading && this.#taken < most; reading = this.#path.at(-1)) {
      const { branch } = reading
      const fork = branch.forks[reading.nextFork]
      const end = fork?.at ?? branch.ids.length
      for (; reading.position < end && this.#taken < most; reading.position++, this.#taken++)
        out.push(branch.ids[reading.position] ?? 0)
      if (fork) {
        reading.nextFork++
        this.#path.push(newReading(fork.child))
      } else if (branch.ended || over) {
        if (branch.endToken !== undefined && this.#taken < most) out.push(branch.endToken)
        this.#path.pop()
      } else break
    }
    return out
  }

  #add(id: number): BranchTokens {
    const branch = { ids: [], forks: [], ended: false }
    this.#branches.set(id, branch)
    return branch
  }
}

function newReading(branch: BranchTokens): Reading {
  return { branch, position: 0, nextFork: 0 }
}
