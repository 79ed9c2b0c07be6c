import { drawnFrom, randomText, type TokenRange } from '../../cli/bench/serving/workload/random-text.ts'
import { hashText, seededRandom } from '../../training/data/random.ts'
import type { Asked } from './side.ts'

/** Requests for each stream: with the first ones all prompts are computed at once, which a running server does not see. */
const ROUNDS = 3
/** Of one stream, whose answers do not vary much. */
const ALONE = 4
/** Answers of different lengths, so that requests do not all begin and end together. */
const LENGTHS = { words: { from: 64, to: 192 }, tokens: { from: 64, to: 192 } }
const SHORT = { words: { from: 16, to: 32 }, tokens: { from: 8, to: 16 } }

interface Lengths {
  readonly words: TokenRange
  readonly tokens: TokenRange
}

/** The requests of a repetition: the same for all sides, and of the same lengths in all repetitions; no two prompts begin alike. */
export function requestsOf(streams: number, repetition: number, quick: boolean): Asked[] {
  const { words, tokens }: Lengths = quick ? SHORT : LENGTHS
  const random = seededRandom(hashText(`peers ${streams}`))
  const count = streams === 1 ? ALONE : ROUNDS * streams
  return Array.from({ length: count }, (_, index) => ({
    prompt: randomText(drawnFrom(words, random), hashText(`${streams}/${repetition}/${index}`)),
    tokens: drawnFrom(tokens, random),
  }))
}
