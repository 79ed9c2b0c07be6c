import { markdownTable } from './markdown-table.ts'

/** The figures of a build's report: every number in it, by its path. Texts and lists are for `apar data stats`. */
export function dataSection(report: unknown): string {
  const rows = numbersIn(report, '').slice(0, MAX_ROWS)
  if (rows.length === 0) return ''
  const counts = markdownTable(['count', ''], rows)
  return `## Data\n\nMade by \`apar data build\`:\n\n${counts}`
}

const MAX_ROWS = 60

function numbersIn(value: unknown, path: string): [string, string][] {
  if (typeof value === 'number') return [[path, value.toLocaleString('en')]]
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return []
  return Object.entries(value).flatMap(([key, inner]) =>
    numbersIn(inner, path === '' ? key : `${path}: ${key}`),
  )
}
