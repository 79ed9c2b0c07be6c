import { writeFileSync } from 'node:fs'
import { dirname, relative, resolve } from 'node:path'
import { UserError } from '../../../explain.ts'
import { writePlots } from '../../../plot/write-plots.ts'
import { rounded } from '../../../report/rounded.ts'
import { batchPlot, type TimeLine } from './batch-plot.ts'
import { servingPlots } from './plots.ts'
import type { CellSummary } from './summary.ts'
import { markdownReport, notesOf, type ReportHead, terminalReport } from './tables.ts'

/** Of the lines of --out and of --json; raised when a field changes its meaning. */
export const VERSION = 1

export interface PublishFlags {
  markdown?: string
  plots?: string
  json?: true
}

export interface Report {
  readonly cells: readonly CellSummary[]
  /** Of nodes whose metrics were read. */
  readonly timeLines: readonly TimeLine[]
}

/** Prints a report, and writes its files. `settings`: what the figures depend on, for programs. */
export async function publish(
  head: ReportHead,
  settings: object,
  report: Report,
  flags: PublishFlags,
): Promise<void> {
  const { cells } = report
  // Before the files: what cannot be written must not lose figures that took long.
  if (flags.json)
    console.log(JSON.stringify({ version: VERSION, ...settings, cells, notes: notesOf(cells) }, rounded))
  else console.log(terminalReport(head, cells))
  const plots = flags.plots === undefined ? [] : await writeServingPlots(report, head, flags.plots)
  if (flags.markdown !== undefined) {
    const folder = dirname(resolve(flags.markdown))
    const links = plots.map((file) => relative(folder, resolve(file)))
    writeFileSync(flags.markdown, markdownReport(head, cells, links))
  }
}

/** Returns the paths of the SVG files. */
async function writeServingPlots(
  { cells, timeLines }: Report,
  head: ReportHead,
  folder: string,
): Promise<string[]> {
  const batch = batchPlot(timeLines, head.title)
  const plots = [
    ...servingPlots(cells, head.title),
    ...(batch ? [{ file: 'batch-over-time', plot: batch }] : []),
  ]
  if (plots.length === 0)
    throw new UserError(
      'invalid_option',
      '--plots: needs several rates, or requests in flight, or limits of the node, or metrics of the node',
    )
  return await writePlots(plots, folder)
}
