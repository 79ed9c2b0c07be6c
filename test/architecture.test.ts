import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, extname, join, relative, sep } from 'node:path'
import { describe, expect, test } from 'vitest'

const SKIPPED = new Set(['node_modules', 'dist', 'build', 'work', '.git', '.wrangler'])

const CUDA = 'native/ops/cuda'

/**
 * The folders that each folder may import or include from, besides itself; a file belongs to the longest matching
 * folder. Exceptions to one direction are the files beside the rooms of edge and gpu-node (entry points and what all
 * rooms share) and device and emulator; the test of cycles, file by file, has none.
 */
const MAY_IMPORT: Record<string, readonly string[]> = {
  shared: [],
  client: ['shared'],
  'ai-sdk': ['client'],
  'gpu-node/engine': ['gpu-node', 'shared'],
  'gpu-node/checkpoint': ['gpu-node', 'gpu-node/engine', 'shared'],
  'gpu-node/text': ['gpu-node', 'gpu-node/checkpoint', 'shared'],
  'gpu-node/grammar': ['gpu-node', 'gpu-node/engine', 'shared'],
  'gpu-node/requests': [
    ...['gpu-node', 'gpu-node/engine', 'gpu-node/checkpoint', 'gpu-node/text', 'gpu-node/grammar', 'shared'],
  ],
  'gpu-node/observe': ['gpu-node', 'gpu-node/engine', 'gpu-node/requests', 'shared'],
  'gpu-node/edge-link': ['gpu-node', 'gpu-node/requests', 'shared'],
  // main.ts puts the node together; log.ts and startup-error.ts are what all rooms share.
  'gpu-node': ['gpu-node/**', 'shared'],
  'training/data': ['gpu-node', 'gpu-node/checkpoint', 'gpu-node/text', 'shared'],
  'edge/keys/budget': ['shared'],
  'edge/keys': ['edge', 'edge/keys/budget', 'shared'],
  'edge/nodes': ['edge', 'shared'],
  'edge/feedback': ['edge', 'shared'],
  'edge/streams': ['edge', 'edge/keys', 'edge/nodes', 'shared'],
  'edge/streams/multiplex': ['edge', 'edge/keys', 'edge/keys/budget', 'edge/nodes', 'edge/streams', 'shared'],
  'edge/streams/http': ['edge', 'edge/keys', 'edge/nodes', 'edge/streams', 'shared'],
  'edge/history': ['shared'],
  'edge/openai': ['edge/history', 'edge/streams/http', 'shared'],
  'edge/anthropic': ['edge/history', 'edge/nodes', 'edge/streams/http', 'shared'],
  'edge/responses': [
    ...['edge', 'edge/keys', 'edge/history', 'edge/openai', 'edge/streams', 'edge/streams/http', 'shared'],
  ],
  'edge/openapi/answers': ['shared'],
  'edge/openapi': ['edge/openapi/answers', 'shared'],
  'edge/middleware': ['edge', 'edge/keys', 'edge/anthropic', 'shared'],
  'edge/routes': [
    ...['edge', 'edge/keys', 'edge/nodes', 'edge/streams', 'edge/streams/http'],
    ...[
      'edge/feedback',
      'edge/history',
      'edge/openai',
      'edge/responses',
      'edge/anthropic',
      'edge/openapi',
      'edge/middleware',
      'shared',
    ],
  ],
  // app.ts assembles the worker; env.ts, app-env.ts, log.ts and handshake.ts are shared by all edge folders.
  edge: ['edge/**', 'shared'],
  'edge/web': ['client', 'shared'],
  cli: ['client', 'edge', 'gpu-node/**', 'shared', 'training/data'],
  bench: ['cli', 'client', 'edge/**', 'gpu-node/**', 'shared', 'training/data'],
  'native/common': [],
  'native/ops': ['native/common'],
  'native/ops/cpu': ['native/common', 'native/ops'],
  'native/ops/sharded': ['native/common', 'native/ops'],
  // What the emulator and the tests share: not part of the engine.
  'native/testing': ['native/common', 'native/ops/sharded'],
  // These two depend on each other: the emulator implements the same device interface as CUDA.
  [`${CUDA}/device`]: ['native/common', `${CUDA}/emulator`],
  [`${CUDA}/emulator`]: ['native/common', 'native/testing', `${CUDA}/device`],
  [`${CUDA}/step`]: ['native/common', `${CUDA}/device`],
  [`${CUDA}/gemm`]: ['native/common', `${CUDA}/device`],
  [`${CUDA}/attention`]: ['native/common', `${CUDA}/device`, `${CUDA}/step`],
  [`${CUDA}/elementwise`]: ['native/common', `${CUDA}/device`, `${CUDA}/step`],
  [CUDA]: [
    ...['native/common', 'native/ops', 'native/ops/sharded', `${CUDA}/device`, `${CUDA}/step`],
    ...[`${CUDA}/gemm`, `${CUDA}/attention`, `${CUDA}/elementwise`],
  ],
  [`${CUDA}/library`]: ['native/common', 'native/ops', 'native/ops/sharded', CUDA, `${CUDA}/device`],
  'native/model': ['native/common', 'native/ops', 'native/ops/cpu'],
  'native/core/draft': ['native/common'],
  'native/core': ['native/common', 'native/model', 'native/core/draft'],
  'native/engine': [
    ...['native/common', 'native/ops', 'native/ops/cpu', 'native/ops/sharded', `${CUDA}/library`],
    ...['native/model', 'native/core'],
  ],
  'native/grammar': ['native/common', 'native/core'],
  'native/addon': ['native/common', 'native/model', 'native/engine', 'native/grammar'],
}

/** Parts that run without Node. */
const WITHOUT_NODE = ['shared', 'edge', 'edge/web', 'client', 'ai-sdk']
/** Build scripts run in Node and are not part of the worker. */
const BUILD_SCRIPTS = ['edge/build.mjs', 'client/build.mjs', 'ai-sdk/build.mjs']

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
const INCLUDE = /^\s*#\s*include\s+"([^"]+)"/gm
const NATIVE_SOURCE = /^native\/.*\.(h|cpp|cu|cuh|inl)$/

function importsOf(file: string): string[] {
  return [...readFileSync(file, 'utf8').matchAll(IMPORT)].flatMap(([, target]) => target ?? [])
}

/** Files of this repository that a file imports or includes, as paths from the root. */
function usedBy(file: string): string[] {
  if (!NATIVE_SOURCE.test(file)) {
    const relatives = importsOf(file).filter((target) => target.startsWith('.'))
    return relatives.map((target) => join(dirname(file), target).split(sep).join('/'))
  }
  const targets = [...readFileSync(file, 'utf8').matchAll(INCLUDE)].flatMap(([, target]) => target ?? [])
  // CMake's include paths: native/, or the file's own folder.
  return targets.map((target) => {
    const beside = join(dirname(file), target).split(sep).join('/')
    return existsSync(`native/${target}`) || !existsSync(beside) ? `native/${target}` : beside
  })
}

function isAllowed(part = 'elsewhere', allowed: readonly string[]): boolean {
  return allowed.some((entry) => {
    return entry.endsWith('/**') ? `${part}/`.startsWith(entry.slice(0, -2)) : part === entry
  })
}

const sources = files.filter(
  (file) => (/\.m?tsx?$|\.mjs$/.test(file) || NATIVE_SOURCE.test(file)) && partOf(file) !== undefined,
)

test('finds the source files', () => {
  const native = sources.filter((file) => NATIVE_SOURCE.test(file))
  expect(native.length).toBeGreaterThan(120)
  expect(sources.length - native.length).toBeGreaterThan(150)
  expect(usedBy('gpu-node/requests/runner.ts')).toContain('shared/errors.ts')
  expect(usedBy('native/model/llama.cpp')).toContain('native/common/error.h')
})

describe('imports and includes run only downwards', () => {
  test.each(Object.entries(MAY_IMPORT))('%s', (part, allowed) => {
    const wrong = sources
      .filter((file) => partOf(file) === part)
      .flatMap((file) =>
        usedBy(file)
          // dist/ contains what was built from the part itself.
          .filter((target) => !target.startsWith('dist/'))
          .filter((target) => partOf(target) !== part && !isAllowed(partOf(target), allowed))
          .map((target) => `${file} uses ${target}`),
      )
    expect(wrong).toEqual([])
  })
})

test('there are no import or include cycles', () => {
  const cycles: string[] = []
  const done = new Set<string>()
  const visit = (file: string, path: readonly string[]) => {
    if (path.includes(file)) cycles.push([...path.slice(path.indexOf(file)), file].join(' -> '))
    if (done.has(file) || path.includes(file)) return
    if (existsSync(file)) for (const target of usedBy(file)) visit(target, [...path, file])
    done.add(file)
  }
  for (const file of sources) visit(file, [])
  expect(cycles).toEqual([])
})

test('nothing that runs without Node imports Node', () => {
  const wrong = sources
    .filter((file) => WITHOUT_NODE.includes(partOf(file) ?? '') && !BUILD_SCRIPTS.includes(file))
    .filter((file) => importsOf(file).some((target) => /^(node:|ws$|workerd$)/.test(target)))
  expect(wrong).toEqual([])
})

test('Workers types and Node types never meet in one tsconfig', () => {
  const configs = files.filter((file) => file.endsWith('tsconfig.json'))
  expect(configs.length).toBeGreaterThan(8)
  for (const file of configs) {
    const { compilerOptions = {} } = JSON.parse(readFileSync(file, 'utf8')) as {
      compilerOptions?: { types?: string[]; lib?: string[] }
    }
    // Without a list TypeScript includes every @types package.
    expect(compilerOptions.types, file).toBeDefined()
    const has = (name: string) => compilerOptions.types?.some((type) => type.startsWith(name)) ?? false
    const workers = has('@cloudflare/')
    expect([file, workers && has('node')]).toEqual([file, false])
    expect([file, workers && (compilerOptions.lib?.includes('DOM') ?? false)]).toEqual([file, false])
  }
})

test('no source file has more than 500 lines', () => {
  const code = new Set(['.ts', '.tsx', '.mts', '.mjs', '.h', '.cpp', '.cu', '.py', '.css', '.html', '.cmake'])
  const long = files
    .filter((file) => code.has(extname(file)))
    .map((file) => ({ file, lines: readFileSync(file, 'utf8').split('\n').length }))
    .filter(({ lines }) => lines > 500)
  expect(long).toEqual([])
})
