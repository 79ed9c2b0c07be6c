import { execFileSync } from 'node:child_process'
import { appendFileSync, mkdirSync, writeFileSync } from 'node:fs'
import { availableParallelism, cpus } from 'node:os'
import { join } from 'node:path'
import { z } from 'zod'
import type { Device, DType } from '../gpu-node/engine/engine-config.ts'

export interface BenchOptions {
  /** Fewer prompts and repetitions: a smoke test. */
  quick: boolean
  /** Names of the parts to run; all if there is none. */
  parts: readonly string[]
  /** Of the benches with options of a model (OPTIONS in main.ts); no other takes any. */
  flags: ModelFlags
}

export interface ModelFlags {
  model?: string | undefined
  adapter?: string | undefined
  /** The model that was tuned, where it is not the adapter's base. */
  base?: string | undefined
  prompts?: string[] | undefined
  /** Requests in flight of the part `concurrency`. Of `serving`. */
  concurrency?: number[] | undefined
  /** A folder of Medusa heads, or `none`. Of `medusa`. */
  medusa?: string | undefined
  repetitions?: number | undefined
  dtype?: DType | undefined
  device?: Device | undefined
}

export type Bench = (options: BenchOptions) => Promise<BenchResult>
/** One attack on a running service, and what its other users notice of it. */
export type Attack = (quick: boolean, file: SampleFile) => Promise<BenchCase[]>

/**
 * One figure. `goal`: the figure, null without one; `floor`: the hardware bound; `peer`: the other
 * program's figure.
 */
export const BenchCase = z.object({
  ...{ case: z.string(), value: z.number(), unit: z.string() },
  better: z.enum(['higher', 'lower']),
  goal: z.number().nullable(),
  ...{ floor: z.number().exactOptional(), peer: z.number().exactOptional() },
  /** value / floor and value / peer, each computed within one repetition. */
  ...{ ofFloor: z.number().exactOptional(), ratio: z.number().exactOptional() },
  /** Smallest and largest sample; `value` is their median. */
  ...{ low: z.number().exactOptional(), high: z.number().exactOptional() },
})
export type BenchCase = z.infer<typeof BenchCase>

export const BenchResult = z.object({
  ...{ bench: z.string(), commit: z.string(), machine: z.string() },
  /** Path of the raw samples, one JSON object per line, relative to the package root. */
  samples: z.string(),
  cases: z.array(BenchCase),
})
export type BenchResult = z.infer<typeof BenchResult>

/** undefined without a goal. */
export function isMet({ value, better, goal }: BenchCase): boolean | undefined {
  if (goal === null) return undefined
  return better === 'higher' ? value >= goal : value <= goal
}

/** A file of one run's raw samples, each written as soon as it is measured. */
export class SampleFile {
  readonly path: string
  readonly #common: { commit: string; machine: string }

  constructor(bench: string) {
    const folder = 'bench/results'
    mkdirSync(folder, { recursive: true })
    this.path = join(folder, `${bench}-${new Date().toISOString().replace(/[:.]/g, '-')}.jsonl`)
    this.#common = { commit: commit(), machine: machine() }
    writeFileSync(this.path, '')
  }

  add(sample: object): void {
    appendFileSync(this.path, `${JSON.stringify({ ...this.#common, ...sample })}\n`)
  }
}

/** Short commit hash, with `-dirty` when the working tree has changes. */
export function commit(): string {
  const git = (...args: string[]) =>
    execFileSync('git', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim()
  try {
    const dirty = git('status', '--porcelain', '--untracked-files=no') === '' ? '' : '-dirty'
    return git('rev-parse', '--short', 'HEAD') + dirty
  } catch {
    return 'unknown'
  }
}

export function machine(): string {
  return `${cpus()[0]?.model.trim() ?? 'unknown CPU'}, ${availableParallelism()} threads, Node ${process.versions.node}`
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length / 2
  const low = sorted[Math.ceil(middle) - 1] ?? Number.NaN
  const high = sorted[Math.floor(middle)] ?? Number.NaN
  return (low + high) / 2
}

/** The median of ratios that were measured in turns, with their spread. */
export function ratioCase(
  name: string,
  ratios: readonly number[],
  better: BenchCase['better'],
  goal: number | null,
): BenchCase {
  const round = (value: number) => Number(value.toPrecision(4))
  const spread = { low: round(Math.min(...ratios)), high: round(Math.max(...ratios)) }
  return { case: name, value: round(median(ratios)), unit: 'x', better, goal, ...spread }
}
