import { writeFileSync } from 'node:fs'
import { dirname, relative, resolve } from 'node:path'
import { UserError } from '../../../explain.ts'
import { writePlots } from '../../../plot/write-plots.ts'
import { rounded } from '../../../report/rounded.ts'
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

/** Prints a report, and writes its files. `settings`: what the figures depend on, for programs. */
export async function publish(
  head: ReportHead,
  settings: object,
  cells: readonly CellSummary[],
  flags: PublishFlags,
): Promise<void> {
  const plots = flags.plots === undefined ? [] : await writeServingPlots(cells, head, flags.plots)
  if (flags.markdown !== undefined) {
    const folder = dirname(resolve(flags.markdown))
    const links = plots.map((file) => relative(folder, resolve(file)))
    writeFileSync(flags.markdown, markdownReport(head, cells, links))
  }
  if (flags.json)
    console.log(JSON.stringify({ version: VERSION, ...settings, cells, notes: notesOf(cells) }, rounded))
  else console.log(terminalReport(head, cells))
}

/** Returns the paths of the SVG files. */
async function writeServingPlots(
  cells: readonly CellSummary[],
  head: ReportHead,
  folder: string,
): Promise<string[]> {
  const plots = servingPlots(cells, head.title)
  if (plots.length === 0)
    throw new UserError(
      'invalid_option',
      '--plots: needs several rates, or requests in flight, or sizes of the KV cache',
    )
  return await writePlots(plots, folder)
}
