import type { TraceStep } from '../../../shared/protocol/trace.ts'
import type { Mode, TracedTurn, TraceOfQuestion } from '../trace-file.ts'

/** What one answer took. */
export interface TurnFigures {
  readonly id: string
  readonly category: string
  readonly turn: number
  readonly mode: Mode
  /** Of the answer, [Fork] and [Child] among them. */
  readonly tokens: number
  /** Steps that sampled a token: those of the prompt before the last one are not among them. */
  readonly steps: number
  /** In the engine, from acceptance to the last step. */
  readonly us: number
  readonly branches: number
  /** Of the deepest branch; 1 is the root. */
  readonly depth: number
  readonly mostLive: number
  /** Behind the first token: tokens sampled, and tokens that all their rows attended to. */
  readonly later: number
  readonly attended: number
  readonly mostBlocks: number
  readonly mostCached: number
  /** Tokens of prompt and answer together. */
  readonly whole: number
  readonly drafted: number
  readonly accepted: number
  /** Rows of the steps that were other requests'. */
  readonly otherRows: number
  /** Live branches in each step that sampled. */
  readonly live: readonly number[]
}

/** The figures of all answered turns of a trace. */
export function figuresOf({ head, turns }: TraceOfQuestion): TurnFigures[] {
  const { id, category, mode } = head
  return turns.map((turn) => ({ id, category, mode, turn: turn.begin.turn, ...turnFigures(turn) }))
}

function turnFigures({ steps, end }: TracedTurn) {
  const sampling = steps.filter(({ sampled }) => sampled > 0)
  const first = steps.findIndex(({ tokens }) => tokens.length > 0)
  const later = first === -1 ? [] : steps.slice(first + 1)
  const depths = new Map([[0, 1]])
  for (const { forks } of steps)
    for (const { branch, parent } of forks) depths.set(branch, (depths.get(parent) ?? 1) + 1)
  return {
    tokens: sum(steps, tokensOf),
    steps: sampling.length,
    us: steps.at(-1)?.us ?? 0,
    branches: depths.size,
    depth: Math.max(...depths.values()),
    mostLive: most(steps, ({ live }) => live),
    later: sum(later, tokensOf),
    attended: sum(later, ({ attended }) => attended),
    mostBlocks: most(steps, ({ blocks }) => blocks),
    mostCached: most(steps, ({ cached }) => cached),
    whole: end.usage.total_tokens,
    drafted: sum(steps, ({ drafted = 0 }) => drafted),
    accepted: sum(steps, ({ accepted = 0 }) => accepted),
    otherRows: sum(steps, ({ rows, batch_rows }) => Math.max(0, batch_rows - rows)),
    live: sampling.map(({ live }) => live),
  }
}

function tokensOf({ tokens }: TraceStep): number {
  return sum(tokens, ({ ids }) => ids.length)
}

export function sum<T>(items: readonly T[], of: (item: T) => number): number {
  return items.reduce((total, item) => total + of(item), 0)
}

function most<T>(items: readonly T[], of: (item: T) => number): number {
  return items.reduce((largest, item) => Math.max(largest, of(item)), 0)
}
