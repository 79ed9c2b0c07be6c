import type { Judgments } from './judgments.ts'
import { keyOf } from './judgments.ts'
import type { Match } from './matches.ts'
import { choiceIn, ratingIn } from './verdict.ts'

/** Of the first set against the second one. */
export interface PairSummary {
  readonly category: string
  readonly pairs: number
  /** Both orders say so. */
  readonly wins: number
  readonly losses: number
  /** Both say so. */
  readonly ties: number
  /** The orders contradict each other, which counts as a tie. */
  readonly inconsistent: number
  /** The judge gave no verdict in one of the orders. */
  readonly unjudged: number
  /** Wins, and half of what is neither a win nor a loss, of what was judged; null of nothing. */
  readonly win_rate: number | null
}

export interface RatingSummary {
  readonly category: string
  /** By answer set: how many ratings, and their mean; null of none. */
  readonly ratings: readonly {
    readonly count: number
    readonly mean: number | null
    readonly unjudged: number
  }[]
}

/** By category and of all; categories in the order in which they first appear. */
export function summarisePairs(
  matches: readonly Match[],
  judgments: Judgments,
  model: string,
): PairSummary[] {
  return byCategory(matches).map(([category, own]) => {
    const orders = new Map<string, (number | 'tie' | undefined)[]>()
    for (const match of own) {
      const key = `${match.turn}/${match.question}`
      const choice = choiceIn(judgments.get(keyOf(model, match)) ?? '')
      // Who won, whatever its place.
      const winner = choice === 'A' ? match.players[0] : choice === 'B' ? match.players[1] : choice
      orders.set(key, [...(orders.get(key) ?? []), winner])
    }
    const verdicts = [...orders.values()].map(([one, other]) => {
      if (one === undefined || other === undefined) return 'unjudged'
      if (one !== other) return 'inconsistent'
      return one === 'tie' ? 'ties' : one === 0 ? 'wins' : 'losses'
    })
    const count = (verdict: (typeof verdicts)[number]) => verdicts.filter((each) => each === verdict).length
    const [wins, losses, ties] = [count('wins'), count('losses'), count('ties')]
    const inconsistent = count('inconsistent')
    const judged = wins + losses + ties + inconsistent
    return {
      ...{ category, pairs: verdicts.length, wins, losses, ties, inconsistent, unjudged: count('unjudged') },
      win_rate: judged === 0 ? null : (wins + (ties + inconsistent) / 2) / judged,
    }
  })
}

export function summariseRatings(
  matches: readonly Match[],
  judgments: Judgments,
  model: string,
  sets: number,
): RatingSummary[] {
  return byCategory(matches).map(([category, own]) => ({
    category,
    ratings: Array.from({ length: sets }, (_, set) => {
      const ofSet = own.filter(({ players }) => players[0] === set)
      const ratings = ofSet.flatMap((match) => ratingIn(judgments.get(keyOf(model, match)) ?? '') ?? [])
      const sum = ratings.reduce((total, rating) => total + rating, 0)
      const count = ratings.length
      return { count, mean: count === 0 ? null : sum / count, unjudged: ofSet.length - count }
    }),
  }))
}

const ALL = 'all'

function byCategory(matches: readonly Match[]): [string, readonly Match[]][] {
  const categories = [...new Set(matches.map(({ category }) => category))]
  const groups = categories.map((category): [string, readonly Match[]] => [
    category,
    matches.filter((match) => match.category === category),
  ])
  return groups.length > 1 ? [...groups, [ALL, matches]] : [[ALL, matches]]
}
