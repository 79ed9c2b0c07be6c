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
