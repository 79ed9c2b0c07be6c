import Table from 'cli-table3'
import { PLAIN_TABLE, showTable } from '../models/show.ts'

/** A table of figures: names are in the first column, figures in the others. */
export interface ReportTable {
  readonly title: string
  readonly head: readonly string[]
  readonly rows: readonly (readonly string[])[]
}

/** Title and table for a terminal. */
export function terminalTable({ title, head, rows }: ReportTable): string {
  const made = new Table({
    ...PLAIN_TABLE,
    head: [...head],
    colAligns: head.map((_, at) => (at === 0 ? 'left' : 'right')),
  })
  made.push(...rows.map((row) => [...row]))
  return `${title}\n\n${showTable(made)}`
}

export function markdownTable({ title, head, rows }: ReportTable): string {
  const line = (cells: readonly string[]) => `| ${cells.map(markdownText).join(' | ')} |`
  const rule = `|${head.map((_, at) => (at === 0 ? '---' : '---:')).join('|')}|`
  return [`### ${title}`, '', line(head), rule, ...rows.map(line), ''].join('\n')
}

/** Text that Markdown shows as it is. */
export function markdownText(text: string): string {
  return text.replace(/[\\|`<>[\]*_]/g, (character) => `\\${character}`)
}
