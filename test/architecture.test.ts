import { readdirSync, readFileSync } from 'node:fs'
import { dirname, extname, join, relative, sep } from 'node:path'
import { describe, expect, test } from 'vitest'

const SKIPPED = new Set([
  'node_modules',
  'dist',
  'build',
  'build-asan',
  'work',
  '.git',
  '.wrangler',
  'models',
])

/** What each part may import of ours, besides itself. The longest matching folder counts. */
const MAY_IMPORT: Record<string, readonly string[]> = {
  shared: [],
  edge: ['shared'],
  'edge/web': ['client', 'shared'],
  'gpu-node': ['shared'],
  client: ['shared'],
  'training/data': ['shared'],
  bench: ['cli', 'client', 'edge', 'gpu-node', 'shared'],
  cli: ['client', 'edge', 'gpu-node', 'shared', 'training/data'],
}

/** Parts that run where there is no Node. */
const WITHOUT_NODE = ['shared', 'edge', 'edge/web', 'client']
/** Runs in Node when the worker is built; no part of it. */
const BUILD_SCRIPTS = ['edge/build.mjs']

function* walk(folder: string): Generator<string> {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    if (entry.isDirectory() && !SKIPPED.has(entry.name)) yield* walk(join(folder, entry.name))
    else if (entry.isFile()) yield join(folder, entry.name)
  }
}

const files = [...walk('.')].map((file) => relative('.', file).split(sep).join('/'))

function partOf(file: string): string | undefined {
  const parts = Object.keys(MAY_IMPORT).filter((part) => file === part || file.startsWith(`${part}/`))
  return parts.sort((a, b) => b.length - a.length)[0]
}

const IMPORT = /(?:\bfrom\s*|\bimport\s*\(\s*|\bimport\s+)'([^']+)'/g

function importsOf(file: string): string[] {
  return [...readFileSync(file, 'utf8').matchAll(IMPORT)].flatMap(([, target]) => target ?? [])
}

const sources = files.filter((file) => /\.m?ts$|\.mjs$/.test(file) && partOf(file) !== undefined)

test('there is something to check', () => {
  expect(sources.length).toBeGreaterThan(50)
  expect(importsOf('gpu-node/runner.ts')).toContain('../shared/errors.ts')
})

describe('imports run only downwards', () => {
  test.each(Object.entries(MAY_IMPORT))('%s', (part, allowed) => {
    const wrong = sources
      .filter((file) => partOf(file) === part)
      .flatMap((file) =>
        importsOf(file)
          .filter((target) => target.startsWith('.'))
          .map((target) => join(dirname(file), target).split(sep).join('/'))
          // dist/ holds what was built from the part itself.
          .filter((target) => !target.startsWith('dist/'))
          .filter((target) => partOf(target) !== part && !allowed.includes(partOf(target) ?? 'elsewhere'))
          .map((target) => `${file} imports ${target}`),
      )
    expect(wrong).toEqual([])
  })
})

test('nothing that runs without Node imports Node', () => {
  const wrong = sources
    .filter((file) => WITHOUT_NODE.includes(partOf(file) ?? '') && !BUILD_SCRIPTS.includes(file))
    .filter((file) => importsOf(file).some((target) => /^(node:|ws$|miniflare$)/.test(target)))
  expect(wrong).toEqual([])
})

test('Workers types and Node types never meet in one tsconfig', () => {
  const configs = files.filter((file) => file.endsWith('tsconfig.json'))
  expect(configs.length).toBeGreaterThan(8)
  for (const file of configs) {
    const { compilerOptions = {} } = JSON.parse(readFileSync(file, 'utf8')) as {
      compilerOptions?: { types?: string[]; lib?: string[] }
    }
    // Without a list TypeScript takes every @types package there is.
    expect(compilerOptions.types, file).toBeDefined()
    const has = (name: string) => compilerOptions.types?.some((type) => type.startsWith(name)) ?? false
    const workers = has('@cloudflare/')
    expect([file, workers && has('node')]).toEqual([file, false])
    expect([file, workers && (compilerOptions.lib?.includes('DOM') ?? false)]).toEqual([file, false])
  }
})

test('no file of code has more than 500 lines', () => {
  const code = new Set(['.ts', '.mts', '.mjs', '.h', '.cpp', '.cu', '.py', '.css', '.html', '.cmake'])
  const long = files
    .filter((file) => code.has(extname(file)))
    .map((file) => ({ file, lines: readFileSync(file, 'utf8').split('\n').length }))
    .filter(({ lines }) => lines > 500)
  expect(long).toEqual([])
})
