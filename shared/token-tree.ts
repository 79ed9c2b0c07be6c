/**
 * An answer with its prompt, as the tokens of a tree: one sample of training data, or the trace of one request. What
 * shows trees (cli/token-tree) takes this type only.
 */
export interface TokenTree {
  readonly title: string
  /** Name and value of whatever else is known, in the order in which it is to be shown. */
  readonly facts: readonly (readonly [name: string, value: string])[]
  /** What a token is called that the model writes (`learned`), and one that it is given (`masked`). */
  readonly words: { readonly written: string; readonly given: string }
  /** Parents come before children. The first segment has no parent; all others have one. */
  readonly segments: readonly Segment[]
}

/** A run of tokens without a fork inside. */
export interface Segment {
  /** Index of the segment that this one goes on from. */
  readonly parent: number | undefined
  /** 0 is the root. A segment of another branch than its parent's begins that branch. */
  readonly branch: number
  readonly tokens: readonly Token[]
}

export interface Token {
  /** What it adds to the text: '' for a special token, and for all but the last token of a character. */
  readonly text: string
  /** What a special token is called; undefined for text. */
  readonly special?: string | undefined
  readonly id?: number | undefined
  /** True for the prompt and for forced tokens: the model reads them and does not write them. */
  readonly given: boolean
}

/** Where a segment lies in its tree. */
export interface Place {
  /** Position of the segment's first token: the number of tokens before it on its path. */
  readonly start: number
  /** Depth of its branch; the root has depth 1. */
  readonly depth: number
  /** Segments of branches that fork at its end. */
  readonly forks: readonly number[]
  /** The segment of the same branch that follows. */
  readonly next: number | undefined
}

/** @throws RangeError when a parent does not come before its child, or two segments go on the same branch at one place. */
export function placesOf(segments: readonly Segment[]): Place[] {
  const places: (Place & { forks: number[]; next: number | undefined })[] = []
  for (const [index, { parent, branch }] of segments.entries()) {
    const above = parent === undefined ? undefined : places[parent]
    const parentSegment = parent === undefined ? undefined : segments[parent]
    if ((index === 0) !== (parent === undefined) || (index > 0 && (!above || !parentSegment))) {
      throw new RangeError(`segment ${index}: parent ${parent} does not come before it`)
    }
    const start = above && parentSegment ? above.start + parentSegment.tokens.length : 0
    const isNext = parentSegment?.branch === branch
    const depth = above ? above.depth + (isNext ? 0 : 1) : 1
    if (isNext && above?.next !== undefined)
      throw new RangeError(`segment ${index}: branch ${branch} goes on twice`)
    if (above && isNext) above.next = index
    else above?.forks.push(index)
    places.push({ start, depth, forks: [], next: undefined })
  }
  return places
}

/** Segments in document order: a segment, what forks at its end, then what follows in its branch. */
export function documentOrder(places: readonly Place[]): number[] {
  const order: number[] = []
  // A stack instead of recursion: a branch with thousands of forks is a chain of as many segments.
  const open = places.length > 0 ? [0] : []
  for (let index = open.pop(); index !== undefined; index = open.pop()) {
    order.push(index)
    const place = places[index]
    if (place?.next !== undefined) open.push(place.next)
    for (const fork of [...(place?.forks ?? [])].reverse()) open.push(fork)
  }
  return order
}

/** The answer and its prompt as text, byte for byte. */
export function documentText(segments: readonly Segment[], places = placesOf(segments)): string {
  return documentOrder(places)
    .map((index) => segments[index]?.tokens.map(({ text }) => text).join(''))
    .join('')
}

/** Number of tokens at the beginning that the model is given: the prompt. */
export function promptLength(segments: readonly Segment[]): number {
  const tokens = segments[0]?.tokens ?? []
  const first = tokens.findIndex(({ given }) => !given)
  return first === -1 ? tokens.length : first
}

/** Steps in which the same branches are decoded, each branch one token per step. */
export interface Phase {
  /** Positions of the tokens of its first and last step. */
  readonly first: number
  readonly last: number
  /** The part of each branch that is decoded in this phase: tokens `from` to `to` (exclusive) of a segment. */
  readonly runs: readonly { readonly segment: number; readonly from: number; readonly to: number }[]
}

/**
 * The tree in the order in which it is decoded when every branch begins at once: a token at position p is computed in
 * the step after those at p - 1. The prompt is no step and belongs to no phase.
 */
export function phasesOf(segments: readonly Segment[], places = placesOf(segments)): Phase[] {
  const prompt = promptLength(segments)
  const spans = segments
    .map(({ tokens }, segment) => {
      const start = places[segment]?.start ?? 0
      return { segment, start, first: Math.max(start, prompt), end: start + tokens.length }
    })
    .filter(({ first, end }) => first < end)
    .sort((a, b) => a.first - b.first || a.segment - b.segment)
  const bounds = [...new Set(spans.flatMap(({ first, end }) => [first, end]))].sort((a, b) => a - b)
  let alive: typeof spans = []
  let begun = 0
  return bounds.slice(0, -1).map((first, index) => {
    const end = bounds[index + 1] ?? first
    alive = alive.filter((span) => span.end > first)
    for (let span = spans[begun]; span && span.first === first; span = spans[++begun]) alive.push(span)
    alive.sort((a, b) => (segments[a.segment]?.branch ?? 0) - (segments[b.segment]?.branch ?? 0))
    const runs = alive.map(({ segment, start }) => ({ segment, from: first - start, to: end - start }))
    return { first, last: end - 1, runs }
  })
}
