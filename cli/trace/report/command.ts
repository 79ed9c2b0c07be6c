import { basename, join, resolve } from 'node:path'
import { type Command, Option } from 'commander'
import { UserError } from '../../explain.ts'
import { type JsonFlag, withJson } from '../../json.ts'
import { writePlots } from '../../plot/write-plots.ts'
import { counting } from '../../progress.ts'
import { rounded } from '../../report/rounded.ts'
import { readSettings, readTraces } from '../run-folder.ts'
import { figuresOf, type TurnFigures } from './measure.ts'
import { reportPlots } from './plots.ts'
import { type RunReport, summarise } from './summary.ts'
import { markdownReport, terminalReport } from './tables.ts'

interface Flags extends JsonFlag {
  format: 'table' | 'markdown' | 'json'
  plots?: string
}

/** Adds `apar trace report`. */
export function registerReport(trace: Command): void {
  withJson(trace.command('report'))
    .description('serial against parallel decoding by category: speed, branches, attention and KV cache')
    .argument('<folders...>', 'of apar trace')
    .addOption(new Option('--format <format>').choices(['table', 'markdown', 'json']).default('table'))
    .option('--plots <folder>', 'write plots there, as SVG and PNG')
    .action(report)
}

async function report(folders: string[], { json, format: shape, plots }: Flags): Promise<void> {
  const format = json ? 'json' : shape
  const shown: string[] = []
  const reports: RunReport[] = []
  for (const folder of folders) {
    const { made, figures } = reportOf(folder)
    reports.push(made)
    const into = plots === undefined || folders.length === 1 ? plots : join(plots, basename(resolve(folder)))
    const files = into === undefined ? [] : await writePlots(reportPlots(made, figures), into)
    shown.push(format === 'markdown' ? markdownReport(made, files) : terminalReport(made))
  }
  process.stdout.write(
    format === 'json' ? `${JSON.stringify({ runs: reports }, rounded)}\n` : shown.join('\n'),
  )
}

/** @throws UserError `invalid_option` for a folder without answers. */
export function reportOf(folder: string): { made: RunReport; figures: TurnFigures[] } {
  const settings = readSettings(folder)
  const figures: TurnFigures[] = []
  const refused: Record<string, number> = {}
  for (const trace of counting('reading traces', readTraces(folder))) {
    figures.push(...figuresOf(trace))
    const code = trace.refused?.code
    if (code !== undefined) refused[code] = (refused[code] ?? 0) + 1
  }
  if (figures.length === 0) {
    const codes = Object.keys(refused).join(', ')
    throw new UserError(
      'invalid_option',
      `${folder}: ${codes === '' ? 'has no answers yet' : `all turns were refused (${codes})`}`,
    )
  }
  return { made: summarise(folder, settings, figures, refused), figures }
}
