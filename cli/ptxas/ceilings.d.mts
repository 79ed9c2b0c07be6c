import type { KernelReport } from './report.mjs'

/** The file of the ceilings. */
export const CEILINGS: string
/** Without launch bounds a block may have so many. */
export const MOST_THREADS: number

/** Of one kernel, or with * in its name of several; in the file a number stands for `blocks`. */
export interface Entry {
  /** Planned to run on a multiprocessor at once. */
  blocks: number
  /** Bytes of static shared memory. */
  shared?: number
  /** Bytes of a thread's stack that are allowed: ptxas spills registers, or the kernel indexes a local array. */
  stack?: number
  /** The reason for a stack. */
  why?: string
}

export interface Compiled {
  /** Relative to native/ops/cuda. */
  file: string
  name: string
  threads: number
  report: KernelReport
}

export interface Row extends KernelReport {
  file: string
  kernel: string
  threads: number
  blocks: number | undefined
  ceiling: number | undefined
}

/** The registers of a thread with which `blocks` blocks of `threads` threads run on a multiprocessor at once. */
export function registerCeiling(threads: number, blocks: number): number

/**
 * What is wrong, in words that say what to do; what is allowed; the rows of the table. `compiled` are all functions of
 * `files`; `all` are the files that there are, relative to native/ops/cuda.
 */
export function judge(
  compiled: readonly Compiled[],
  ceilings: Record<string, Record<string, number | Entry>>,
  files: readonly string[],
  all: readonly string[],
): { problems: string[]; notes: string[]; rows: Row[] }
