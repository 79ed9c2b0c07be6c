/** What the page is given to show, as JSON. */
export interface PageData {
  title: string
  facts: readonly (readonly [name: string, value: string])[]
  words: { readonly written: string; readonly given: string }
  segments: readonly PageSegment[]
  /** Indexes of the segments in document order. */
  order: readonly number[]
  /** Number of tokens of the prompt. */
  prompt: number
  phases: readonly {
    first: number
    last: number
    runs: readonly { segment: number; from: number; to: number }[]
  }[]
}

export interface PageSegment {
  parent: number | null
  branch: number
  /** Position of its first token. */
  start: number
  depth: number
  /** Branches that fork at its end. */
  forks: readonly number[]
  tokens: readonly PageToken[]
}

export interface PageToken {
  /** The text or name as it is shown: nothing in it is invisible. */
  shown: string
  /** The text or name as it is read out and quoted. */
  quoted: string
  id?: number | undefined
  kind?: 'special' | 'partial' | undefined
  given?: true | undefined
}
