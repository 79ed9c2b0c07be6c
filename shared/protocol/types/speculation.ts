/**
 * Where draft tokens come from (speculative decoding): `medusa` are the Medusa heads of the checkpoint, `ngram` is text
 * that was seen before. `auto`: the heads if there are some, else n-grams while they pay.
 */
export type Speculation = 'auto' | 'off' | 'medusa' | 'ngram'

export interface Drafts {
  /** Tokens that were drafted and computed beside the model's own. */
  drafted: number
  /** Those of them that became tokens of the answer. */
  accepted: number
}

/** What speculation did for a request: the totals of all sources, and the parts of those that drafted. */
export interface SpeculationUsage extends Drafts {
  /** Of each Medusa head: the first one drafts the token after the model's own. */
  heads?: Drafts[] | undefined
  ngram?: Drafts | undefined
}
