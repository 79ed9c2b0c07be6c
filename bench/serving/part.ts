import type { SampleFile } from '../report.ts'

/** What a part needs that brings its own load. */
export interface PartOptions {
  readonly quick: boolean
  readonly file: Pick<SampleFile, 'add'>
  /** The command `apar`. */
  readonly script: string
}
