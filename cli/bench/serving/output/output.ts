import type { NodeReading } from '../load/node-metrics.ts'
import type { CellSettings, Sample } from '../load/sample.ts'
import type { CellSummary } from '../report/summary.ts'

/** One measurement of a cell, when it has ended. */
export interface MeasuredRound {
  readonly began: Date
  /** In the order of the requests. */
  readonly samples: readonly Sample[]
  readonly readings: readonly NodeReading[]
}

/** What `--out` writes while a run goes on. */
export interface Output {
  /** Once, before anything is measured. */
  run(settings: object): void
  /** As soon as a request has ended. */
  sample(cell: CellSettings, round: number, sample: Sample): void
  round(cell: CellSettings, round: number, measured: MeasuredRound): void
  /** All rounds of a cell. */
  summary(summary: CellSummary): void
  close(): void
}

export const NO_OUTPUT: Output = {
  run: () => {},
  sample: () => {},
  round: () => {},
  summary: () => {},
  close: () => {},
}
