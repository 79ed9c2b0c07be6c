import { markdownTable, markdownText, type ReportTable, terminalTable } from '../../../report/table.ts'
import { labelOf } from '../load/sample.ts'
import type { CellSummary, Distribution } from './summary.ts'

/** What a report is about. */
export interface ReportHead {
  readonly title: string
  /** One line each. */
  readonly facts: readonly string[]
}

type Column = readonly [name: string, of: (cell: CellSummary) => string]

const THROUGHPUT: readonly Column[] = [
  ['requests', ({ requests }) => String(requests)],
  ['failed', ({ requests, completed }) => String(requests - completed)],
  ['seconds', ({ duration_s }) => duration_s.toFixed(1)],
  ['requests/s', ({ requests_per_s }) => requests_per_s.toFixed(2)],
  ['output tokens/s', ({ output_tokens_per_s }) => output_tokens_per_s.toFixed(1)],
  ['tokens/answer', ({ output_tokens, completed }) => mean(output_tokens, completed)],
  ['prompt tokens', ({ prompt_tokens }) => String(prompt_tokens)],
  ['cached', ({ cached_tokens, prompt_tokens }) => percent(cached_tokens, prompt_tokens)],
]

const GOODPUT: readonly Column[] = [
  ['good', ({ goodput }) => (goodput ? `${Math.round(100 * goodput.share)} %` : '–')],
  ['good requests/s', ({ goodput }) => (goodput ? goodput.requests_per_s.toFixed(2) : '–')],
]

const LATENCY: readonly Column[] = [
  ...quantiles('TTFT', ({ ttft_ms }) => ttft_ms),
  ...quantiles('per token', ({ tpot_ms }) => tpot_ms),
  ...quantiles('between pieces', ({ itl_ms }) => itl_ms),
  ...quantiles('end to end', ({ e2e_ms }) => e2e_ms),
]

const NODE: readonly Column[] = [
  ['KV blocks', ({ node }) => count(node?.kv_blocks)],
  ['KV peak', ({ node }) => (node?.kv_peak === undefined ? '–' : `${(100 * node.kv_peak).toFixed(1)} %`)],
  ['most requests', ({ node }) => count(node?.most_running_requests)],
  ['most branches', ({ node }) => count(node?.most_branches)],
  ['steps', ({ node }) => count(node?.steps)],
  ['tokens/step', ({ node }) => (node?.steps ? mean(node.generated_tokens ?? 0, node.steps) : '–')],
  ['pre-emptions', ({ node }) => count(node?.preemptions)],
  ['drafted', ({ node }) => count(node?.drafted)],
  ['accepted', ({ node }) => percent(node?.accepted ?? 0, node?.drafted ?? 0)],
]

function quantiles(name: string, of: (cell: CellSummary) => Distribution | null): Column[] {
  const shown = (value: number | undefined) => (value === undefined ? '–' : milliseconds(value))
  return [
    [`${name} p50`, (cell) => shown(of(cell)?.p50)],
    ['p90', (cell) => shown(of(cell)?.p90)],
    ['p99', (cell) => shown(of(cell)?.p99)],
  ]
}

export function terminalReport(head: ReportHead, cells: readonly CellSummary[]): string {
  const tables = tablesOf(cells).flatMap((table) => [terminalTable(table), ''])
  return [head.title, ...head.facts, '', ...tables, ...notesOf(cells)].join('\n').trimEnd()
}

/** The same as Markdown. `plots`: paths of SVG files. */
export function markdownReport(
  head: ReportHead,
  cells: readonly CellSummary[],
  plots: readonly string[],
): string {
  const parts = [
    `## ${markdownText(head.title)}`,
    '',
    ...head.facts.map((fact) => `${markdownText(fact)}\n`),
    ...tablesOf(cells).map(markdownTable),
    ...notesOf(cells).map((note) => `${markdownText(note)}\n`),
    ...plots.map((file) => `![${file.replace(/^.*\/|\.svg$/g, '')}](${file})`),
  ]
  return `${parts.join('\n').trimEnd()}\n`
}

function tablesOf(cells: readonly CellSummary[]): ReportTable[] {
  const table = (title: string, columns: readonly Column[]): ReportTable => ({
    title,
    head: ['', ...columns.map(([name]) => name)],
    rows: cells.map((cell) => [rowName(cell), ...columns.map(([, of]) => of(cell))]),
  })
  const throughput = cells.some(({ goodput }) => goodput) ? [...THROUGHPUT, ...GOODPUT] : THROUGHPUT
  return [
    table('Throughput', throughput),
    table('Latency, ms', LATENCY),
    ...(cells.some(({ node }) => node) ? [table('The node', NODE)] : []),
  ]
}

function rowName(cell: CellSummary): string {
  return cell.run === undefined ? labelOf(cell) : `${cell.run}: ${labelOf(cell)}`
}

/** A server without the source of drafts decodes token by token, and says nothing. */
const DRAFTING = /medusa|ngram/

/** What a reader must know before trusting the figures. */
export function notesOf(cells: readonly CellSummary[]): string[] {
  return cells
    .flatMap((cell) => {
      const label = rowName(cell)
      const { client, errors, uncounted, shorter, wait_ms } = cell
      const failed = Object.entries(errors).map(([code, times]) => `${times} ${code}`)
      return [
        ...(failed.length === 0 ? [] : [`${label}: failed: ${failed.join(', ')}`]),
        ...(uncounted === 0
          ? []
          : [`${label}: the server counted no tokens of ${uncounted} answers: pieces of text are counted`]),
        ...(shorter === undefined
          ? []
          : [`${label}: ${shorter} answers have fewer tokens than asked for: do they fit the context?`]),
        ...(DRAFTING.test(cell.mode) && cell.node?.drafted === 0
          ? [`${label}: nothing was drafted: has the model heads, or its text repetitions?`]
          : []),
        ...(client.late
          ? [
              `${label}: this program was late (timers ${client.loop_late_p99_ms} ms, sendings ${client.sent_late_p99_ms} ms at p99): its own delay is in the times`,
            ]
          : []),
        ...(cell.rate !== null && wait_ms && wait_ms.p99 >= 1
          ? [
              `${label}: requests waited for a place in flight (${milliseconds(wait_ms.p99)} ms at p99), which no latency includes`,
            ]
          : []),
      ]
    })
    .concat(cacheNote(cells))
}

const CACHE_TOLERANCE = 0.1

function cacheNote(cells: readonly CellSummary[]): string[] {
  const shares = cells
    .filter(({ prompt_tokens }) => prompt_tokens > 0)
    .map((cell) => cell.cached_tokens / cell.prompt_tokens)
  if (Math.max(...shares) - Math.min(...shares) <= CACHE_TOLERANCE || shares.length < 2) return []
  return [
    'Rows differ in how much of the prompts was in the prefix cache: their times to the first token cannot be compared',
  ]
}

function milliseconds(value: number): string {
  return value >= 100 ? value.toFixed(0) : value.toFixed(1)
}

function count(value: number | undefined): string {
  return value === undefined ? '–' : String(value)
}

function mean(sum: number, of: number): string {
  return of === 0 ? '–' : (sum / of).toFixed(1)
}

function percent(part: number, whole: number): string {
  return whole === 0 ? '–' : `${Math.round((100 * part) / whole)} %`
}
