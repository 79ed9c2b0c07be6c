import { basename } from 'node:path'
import type { ForcedBranch } from '../../../../shared/protocol/node.ts'
import type { ChatMessage } from '../../../../shared/protocol/request.ts'
import { readPrompts } from '../../../../training/data/prompts/read-prompts.ts'
import { hashText, seededRandom } from '../../../../training/data/random.ts'
import { UserError } from '../../../explain.ts'
import { datasetFile } from '../../../trace/dataset.ts'
import type { ArrivalTimes } from './arrivals.ts'
import { drawnFrom, randomText, type TokenRange } from './random-text.ts'
import { readRecordedLoad } from './recorded-load.ts'

/** The data set of prompts of random words. */
export const RANDOM = 'random'
const RANDOM_PROMPTS = 100
/** Of a recorded load, which may have millions. */
const RECORDED_PROMPTS = 1000

export interface BenchPrompt {
  readonly id: string
  readonly messages: readonly ChatMessage[]
  /** The length that the answer is to have; undefined: the model ends it. */
  readonly outputTokens: number | undefined
  /** The answer, for a replay. */
  readonly forced?: readonly ForcedBranch[] | undefined
}

/** How many words a prompt of so many tokens has at the target. */
export type WordsOf = (tokens: number) => number

export interface Workload {
  readonly name: string
  readonly size: number
  /** Prompts are made of random words, for which the target's tokens must be known. */
  readonly isRandom: boolean
  /** Recorded times, for a load that has some. */
  readonly recorded: ArrivalTimes | undefined
  /**
   * The prompts of one part of a run. Random ones have the same lengths in each part and other words, so that no prefix
   * cache knows them.
   */
  prompts(part: number, wordsOf: WordsOf): readonly BenchPrompt[]
}

export interface WorkloadOptions {
  readonly dataset: string | undefined
  /** Folder of the named question sets. */
  readonly data: string | undefined
  /** A CSV file of a recorded load. */
  readonly arrivals: string | undefined
  /** How many prompts at most. */
  readonly limit: number | undefined
  readonly inputTokens: TokenRange
  readonly outputTokens: TokenRange | undefined
  readonly seed: number
}

/** @throws AparError, UserError for files that are not there or not as they should be. */
export async function openWorkload(options: WorkloadOptions): Promise<Workload> {
  const { dataset, arrivals, limit } = options
  if (arrivals === undefined) {
    if (dataset === undefined)
      throw new UserError('missing_option', '--dataset is needed: a file, vicuna_bench, mt_bench or random')
    return dataset === RANDOM ? randomWorkload(options) : await promptsOfFile(dataset, options)
  }
  const load = await readRecordedLoad(arrivals, limit ?? RECORDED_PROMPTS)
  const recorded = load.map(({ at }) => at)
  if (dataset === undefined || dataset === RANDOM)
    return { ...ofLengths(basename(arrivals), load, options.seed), recorded }
  const prompts = await promptsOfFile(dataset, { ...options, limit: load.length })
  return { ...prompts, recorded: recorded.slice(0, prompts.size) }
}

function randomWorkload({
  limit = RANDOM_PROMPTS,
  inputTokens,
  outputTokens,
  seed,
}: WorkloadOptions): Workload {
  const random = seededRandom(hashText(`lengths ${seed}`))
  const lengths = Array.from({ length: limit }, () => ({
    inputTokens: drawnFrom(inputTokens, random),
    outputTokens: outputTokens && drawnFrom(outputTokens, random),
  }))
  return ofLengths(RANDOM, lengths, seed)
}

interface Lengths {
  readonly inputTokens: number
  readonly outputTokens: number | undefined
}

function ofLengths(name: string, lengths: readonly Lengths[], seed: number): Workload {
  return {
    ...{ name, size: lengths.length, isRandom: true, recorded: undefined },
    prompts: (part, wordsOf) =>
      lengths.map(({ inputTokens, outputTokens }, index) => {
        const content = randomText(wordsOf(inputTokens), hashText(`${seed}/${part}/${index}`))
        return { id: `${name}:${index + 1}`, messages: [{ role: 'user', content }], outputTokens }
      }),
  }
}

async function promptsOfFile(
  dataset: string,
  { data, limit = Number.POSITIVE_INFINITY, outputTokens, seed }: WorkloadOptions,
): Promise<Workload> {
  const file = datasetFile(dataset, data)
  const random = seededRandom(hashText(`lengths ${seed}`))
  const prompts: BenchPrompt[] = []
  for await (const { id, messages } of readPrompts(file)) {
    if (prompts.length >= limit) break
    prompts.push({ id, messages, outputTokens: outputTokens && drawnFrom(outputTokens, random) })
  }
  if (prompts.length === 0) throw new UserError('invalid_option', `--dataset: ${file} has no prompts`)
  const name = basename(dataset).replace(/\.jsonl?(\.\w+)?$/, '')
  return { name, size: prompts.length, isRandom: false, recorded: undefined, prompts: () => prompts }
}
