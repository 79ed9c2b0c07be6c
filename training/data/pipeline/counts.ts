import { RULES, type Rule, type Structure } from '../extract/structure.ts'
import { FAULTS, type Fault } from '../input/conversations.ts'

/** Why a record is left out although its answer may be good: rules of the build, beside those of the extraction. */
export const BUILD_RULES = {
  invalid_utf8: FAULTS.invalid_utf8,
  lone_surrogate: FAULTS.lone_surrogate,
  duplicate_id: FAULTS.duplicate_id,
  no_turn: 'no question with an answer',
  cut_off: 'the answer did not end by itself: its finish_reason is not stop',
  template: 'the chat template refuses the conversation',
  over_context: 'a path, or the first turn, has more tokens than --context',
  rows_too_large:
    'the rows of its branches together would be too large: they repeat the text before each fork',
} as const
export type BuildRule = keyof typeof BUILD_RULES
export type LeftOut = Rule | BuildRule

export function reasonOf(rule: LeftOut): string {
  return { ...RULES, ...BUILD_RULES }[rule]
}

/** What a build counts; all of it can be added up over parts of the input. */
export interface Counts {
  conversations: number
  structured: Partial<Record<Structure['kind'], number>>
  unstructured: number
  leftOut: number
  /** How many answers each rule refused, whether they teach as unstructured text or are left out. */
  refused: Partial<Record<LeftOut, number>>
  faults: Partial<Record<Fault, number>>
  branches: number
  /** Structured conversations by branches on the longest path, the root included. */
  depths: Record<string, number>
  heldOut: { all: number; structured: number }
  /** Examples that are shorter than their conversation: later turns beyond the context. */
  turnsCut: number
  /** Structured conversations without a serial example, which would be longer than the context. */
  serialTooLong: number
}

export function noCounts(): Counts {
  return {
    conversations: 0,
    structured: {},
    unstructured: 0,
    leftOut: 0,
    refused: {},
    faults: {},
    branches: 0,
    depths: {},
    heldOut: { all: 0, structured: 0 },
    turnsCut: 0,
    serialTooLong: 0,
  }
}

/** Adds the numbers in `more` to those in `sum`, at every level. */
export function addCounts(sum: Counts, more: Counts): void {
  add(sum as unknown as Tree, more as unknown as Tree)
}

type Tree = { [name: string]: number | Tree }

function add(sum: Tree, more: Tree): void {
  for (const [name, value] of Object.entries(more)) {
    if (typeof value === 'number') sum[name] = Number(sum[name] ?? 0) + value
    else {
      sum[name] ??= {}
      add(sum[name] as Tree, value)
    }
  }
}

export function increment<Name extends string>(counts: Partial<Record<Name, number>>, name: Name): void {
  counts[name] = (counts[name] ?? 0) + 1
}
