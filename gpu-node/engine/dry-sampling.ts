import type { DryFields } from '../../shared/protocol/request.ts'

/** "Don't repeat yourself" (native/core/dry_penalty.h), with llama.cpp's names and defaults. */
export interface DrySampling {
  /** 0 is off. */
  multiplier: number
  /** At least 1. */
  base: number
  /** Tokens that may repeat without a loss. */
  allowedLength: number
  /** Tokens of the path that are looked at; -1 for all. */
  penaltyLastN: number
  /** Texts at which a repeated sequence ends. */
  sequenceBreakers: string[]
}

export const NO_DRY: DrySampling = {
  multiplier: 0,
  base: 1.75,
  allowedLength: 2,
  penaltyLastN: -1,
  sequenceBreakers: ['\n', ':', '"', '*'],
}

/**
 * What ends a part of a form: a string, an object, a list, and a text between markers. A token that the grammar leaves no
 * choice for is safe from any penalty; but an end that repeats an earlier one would lose against more text, until nothing is
 * left of `max_tokens`.
 */
export const CLOSINGS: readonly string[] = ['"', '}', ']', '<', '>']

/** For an answer that matches a grammar. */
export function sparingClosings(dry: DrySampling): DrySampling {
  return { ...dry, sequenceBreakers: [...new Set([...dry.sequenceBreakers, ...CLOSINGS])] }
}

type Given = { readonly [Name in keyof DryFields]: DryFields[Name] | null }

/** What is given, by its names in requests and files, and for the rest `others`. */
export function drySampling(given: Given, others: DrySampling = NO_DRY): DrySampling {
  return {
    multiplier: given.dry_multiplier ?? others.multiplier,
    base: given.dry_base ?? others.base,
    allowedLength: given.dry_allowed_length ?? others.allowedLength,
    penaltyLastN: given.dry_penalty_last_n ?? others.penaltyLastN,
    sequenceBreakers:
      given.dry_sequence_breakers?.map((text) => text.toWellFormed()) ?? others.sequenceBreakers,
  }
}
