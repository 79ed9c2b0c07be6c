/** What the page is given to show, as JSON. */
export interface PageData {
  title: string
  facts: readonly (readonly [name: string, value: string])[]
  /** The turns of the conversation; each was answered by one or both modes. */
  turns: readonly PageTurn[]
}

export interface PageTurn {
  prompt: string
  answers: readonly PageAnswer[]
}

export interface PageAnswer {
  mode: 'parallel' | 'serial'
  steps: readonly PageStep[]
}

export interface PageStep {
  /** Microseconds since the request was accepted. */
  us: number
  step: number
  tokens: number
  live: number
  rows: number
  batchRows: number
  blocks: number
  attended: number
  drafted: number
  accepted: number
  texts: readonly (readonly [branch: number, text: string])[]
  forks: readonly (readonly [branch: number, parent: number])[]
  ends: readonly (readonly [branch: number, reason: string])[]
}
