import { z } from 'zod'
import type * as types from './types/speculation.ts'

/**
 * Where draft tokens come from (speculative decoding): `medusa` are the Medusa heads of the checkpoint, `ngram` is text
 * that was seen before. `auto`: the heads if there are some, else n-grams while they pay.
 */
export const SPECULATION = ['auto', 'off', 'medusa', 'ngram'] as const
export const Speculation = z.enum(SPECULATION)
export type Speculation = types.Speculation

/** More than any checkpoint has. */
export const MAX_DRAFT_HEADS = 64

const Drafts = z.object({
  /** Tokens that were drafted and computed beside the model's own. */
  drafted: z.int().min(0),
  /** Those of them that became tokens of the answer. */
  accepted: z.int().min(0),
})
export type Drafts = types.Drafts

/** What speculation did for a request: the totals of all sources, and the parts of those that drafted. */
export const SpeculationUsage = Drafts.extend({
  /** Of each Medusa head: the first one drafts the token after the model's own. */
  heads: z.array(Drafts).min(1).max(MAX_DRAFT_HEADS).optional(),
  ngram: Drafts.optional(),
})
export type SpeculationUsage = types.SpeculationUsage

/** The usage of several streams together; undefined when none has drafted. */
export function sumSpeculation(
  parts: readonly (SpeculationUsage | undefined)[],
): SpeculationUsage | undefined {
  const given = parts.filter((part) => part !== undefined)
  if (given.length === 0) return undefined
  const ofHeads = given.map(({ heads = [] }) => heads)
  const heads = Array.from({ length: Math.max(...ofHeads.map(({ length }) => length)) }, (_, head) =>
    sum(ofHeads.map((each) => each[head])),
  )
  const ofNgrams = given.map(({ ngram }) => ngram).filter((ngram) => ngram !== undefined)
  return {
    ...sum(given),
    ...(heads.length > 0 && { heads }),
    ...(ofNgrams.length > 0 && { ngram: sum(ofNgrams) }),
  }
}

function sum(parts: readonly (Drafts | undefined)[]): Drafts {
  let drafted = 0
  let accepted = 0
  for (const part of parts) {
    drafted += part?.drafted ?? 0
    accepted += part?.accepted ?? 0
  }
  return { drafted, accepted }
}
