import { execFileSync } from 'node:child_process'
import { appendFileSync, mkdirSync, writeFileSync } from 'node:fs'
import { availableParallelism, cpus } from 'node:os'
import { join } from 'node:path'

export interface BenchOptions {
  /** Fewer prompts and repetitions: to see that it runs. */
  quick: boolean
}
export type Bench = (options: BenchOptions) => Promise<BenchResult>

/** One figure. `goal` is the issue's, null where it names none; `floor` and `peer` are what bounds it and who else. */
export interface BenchCase {
  case: string
  value: number
  unit: string
  better: 'higher' | 'lower'
  goal: number | null
  floor?: number
  peer?: number
  /** value / floor and value / peer, each taken within one repetition. */
  ofFloor?: number
  ratio?: number
  /** Smallest and largest sample behind `value`, a median. */
  low?: number
  high?: number
}

export interface BenchResult {
  bench: string
  commit: string
  machine: string
  /** Raw samples, one JSON object a line, relative to the package. */
  samples: string
  cases: BenchCase[]
}

/** Raw samples of one run, each written as soon as it is measured. */
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

  add(sample: Record<string, unknown>): void {
    appendFileSync(this.path, `${JSON.stringify({ ...this.#common, ...sample })}\n`)
  }
}

/** Short hash; `-dirty` when the tree has changes. */
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
