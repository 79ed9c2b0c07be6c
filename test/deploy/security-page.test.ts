import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { packageRoot } from '../../gpu-node/package-root.ts'

const page = readFileSync(join(packageRoot, 'docs/security.md'), 'utf8')
const cellsOf = (line: string) => line.split(' | ').map((cell) => cell.replace(/^\| | ?\|$/g, ''))
/** Rows of the limits table: [boundary, what, at most, beyond it, code, test]. */
const limits = page
  .split('\n')
  .map(cellsOf)
  .filter((cells) => cells.length === 6 && cells[0] !== 'boundary')
/** Rows of the threats table: [threat, protection, tests, not covered]. */
const rows = page
  .split('\n')
  .map(cellsOf)
  .filter((cells) => cells.length === 4 && cells[0] !== 'threat')
/** References to tests have the form: `path` "title" */
const named = [...rows.map(([, , tests = '']) => tests), ...limits.map((cells) => cells[5] ?? '')]
const references = named.flatMap((tests) =>
  [...tests.matchAll(/`(test\/[^`]+)`(?: "([^"]+)")?/g)].map(([, path = '', title]) => ({ path, title })),
)

test('every threat names a test', () => {
  expect(rows.length).toBeGreaterThan(25)
  const without = rows.filter(([, , tests]) => !tests?.includes('`test/'))
  // Threats that depend on the configuration of a network, or on npm.
  expect(without.map(([threat]) => threat)).toEqual([
    'prompts are read on the way',
    'a package brings something along',
  ])
})

test('every limit names an existing source file', () => {
  expect(limits.length).toBeGreaterThan(25)
  const files = limits.map(([, , , , code = '']) => /^`([^`]+)`$/.exec(code)?.[1] ?? '')
  expect(files.filter((file) => !existsSync(join(packageRoot, file)) || file === '')).toEqual([])
})

test.each(references)('$path "$title" exists', ({ path, title }) => {
  const file = join(packageRoot, path)
  expect(existsSync(file)).toBe(true)
  if (title !== undefined) expect(readFileSync(file, 'utf8')).toContain(`'${title}'`)
})
