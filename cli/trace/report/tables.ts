import { markdownTable, markdownText, type ReportTable, terminalTable } from '../../report/table.ts'
import { flat } from '../../token-tree/visible.ts'
import type { GroupSummary, RunReport } from './summary.ts'

type Column = readonly [name: string, of: (group: GroupSummary) => string]

const SPEED: readonly Column[] = [
  ['answers', ({ speedup }) => String(speedup.answers)],
  ['tokens/step parallel', ({ parallel }) => fixed(parallel.tokens_per_step)],
  ['serial', ({ serial }) => fixed(serial.tokens_per_step)],
  ['speed-up', ({ speedup }) => factor(speedup.steps)],
  ['ms/token parallel', ({ parallel }) => fixed(parallel.ms_per_token)],
  ['serial', ({ serial }) => fixed(serial.ms_per_token)],
  ['speed-up', ({ speedup }) => factor(speedup.wall_clock_per_token)],
  ['per answer', ({ speedup }) => factor(speedup.wall_clock)],
]

const BRANCHES: readonly Column[] = [
  ['answers', ({ parallel }) => String(parallel.answers)],
  ['forking', ({ branches }) => percent(branches.forking)],
  ['forks of these', ({ branches }) => fixed(branches.forks)],
  ['most live', ({ branches }) => String(branches.most_live)],
  ['max depth', ({ branches }) => String(branches.max_depth)],
  ['tokens/answer parallel', ({ parallel: { tokens, answers } }) => perAnswer(tokens, answers)],
  ['serial', ({ serial: { tokens, answers } }) => perAnswer(tokens, answers)],
]

const MEMORY: readonly Column[] = [
  ['attended/token parallel', ({ parallel }) => fixed(parallel.attended_per_token, 1)],
  ['serial', ({ serial }) => fixed(serial.attended_per_token, 1)],
  ['ratio', ({ speedup }) => fixed(speedup.attended_per_token)],
  ['peak blocks parallel', ({ parallel }) => fixed(parallel.peak_blocks, 1)],
  ['serial', ({ serial }) => fixed(serial.peak_blocks, 1)],
  ['ratio', ({ speedup }) => fixed(speedup.peak_blocks)],
  ['cached share parallel', ({ parallel }) => percent(parallel.peak_cached_share)],
  ['serial', ({ serial }) => percent(serial.peak_cached_share)],
]

const DRAFTS: readonly Column[] = [
  ['drafted parallel', ({ parallel }) => String(parallel.drafted)],
  ['accepted', ({ parallel: { accepted, drafted } }) => percent(drafted > 0 ? accepted / drafted : null)],
  ['drafted serial', ({ serial }) => String(serial.drafted)],
  ['accepted', ({ serial: { accepted, drafted } }) => percent(drafted > 0 ? accepted / drafted : null)],
]

/** The tables of a report for a terminal. */
export function terminalReport(report: RunReport): string {
  const tables = tablesOf(report).map(terminalTable)
  return `${[...headLines(report), '', ...tables.flatMap((table) => [table, ''])].join('\n')}`
}

/** The same as Markdown, with links to the plots. */
export function markdownReport(report: RunReport, plots: readonly string[]): string {
  const tables = tablesOf(report).map(markdownTable)
  const [title = '', ...facts] = headLines(report)
  const images = plots.map((file) => `![${file.replace(/\.svg$/, '')}](${file})`)
  const parts = [
    `## ${markdownText(title)}`,
    '',
    ...facts.map((fact) => `${markdownText(fact)}\n`),
    ...tables,
    ...images,
  ]
  return `${parts.join('\n').trimEnd()}\n`
}

function headLines({ run, folder, refused, shared_steps }: RunReport): string[] {
  const where = Object.values(run.where).join(', ')
  const lines = [
    flat(`${run.dataset} · ${run.model} (${folder})`),
    flat(`${where}; requests ${JSON.stringify(run.request)}`),
  ]
  const codes = Object.entries(refused).map(([code, times]) => `${times} ${code}`)
  if (codes.length > 0) lines.push(flat(`Turns that were refused, which no figure has: ${codes.join(', ')}`))
  if (shared_steps) {
    lines.push('Several requests shared the steps: times are those of shared steps, not of answers alone.')
  }
  return lines
}

function tablesOf({ categories, all }: RunReport): ReportTable[] {
  const groups = categories.length > 1 ? [...categories, all] : [all]
  const table = (title: string, columns: readonly Column[]): ReportTable => ({
    title,
    head: ['category', ...columns.map(([name]) => name)],
    rows: groups.map((group) => [flat(group.category), ...columns.map(([, of]) => of(group))]),
  })
  const drafts = all.parallel.drafted + all.serial.drafted > 0 ? [table('Drafted tokens', DRAFTS)] : []
  return [
    table('Speed of parallel against serial decoding', SPEED),
    table('Branches', BRANCHES),
    table('Attention and KV cache', MEMORY),
    ...drafts,
  ]
}

function fixed(value: number | null, digits = 2): string {
  return value === null ? '–' : value.toFixed(digits)
}

function factor(value: number | null): string {
  return value === null ? '–' : `${value.toFixed(2)}x`
}

function percent(share: number | null): string {
  return share === null ? '–' : `${Math.round(100 * share)} %`
}

function perAnswer(tokens: number, answers: number): string {
  return answers === 0 ? '–' : (tokens / answers).toFixed(0)
}
