import { execFileSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { basename, dirname, join, relative } from 'node:path'
import { licences } from './licences.mjs'
import { root } from './report.mjs'

const OUT = join(root, 'dist/packages')
const PLATFORM = `${process.platform}-${process.arch}`
const ENGINE_NAME = `apar-engine-${PLATFORM}`
const WORKERD_NAME = `apar-workerd-${PLATFORM}`
/** Cloudflare's packages of workerd's program that {@link writeWorkerd} takes the place of, by platform. */
const WORKERD_PACKAGES = {
  'linux-x64': '@cloudflare/workerd-linux-64',
  'linux-arm64': '@cloudflare/workerd-linux-arm64',
}
const read = (path) => JSON.parse(readFileSync(join(root, path), 'utf8'))

/** What the command reads at run time, and what `apar engine build` compiles. */
const FILES = [
  'CHANGELOG.md',
  'LICENSE',
  'cli/token-tree/page',
  'cli/trace/show/page',
  'dist/apar.js',
  'dist/chunks',
  'dist/data-worker.js',
  'dist/edge',
  'dist/prompt-worker.js',
  'edge/build.mjs',
  'models',
  'native',
  'training/data/prompts/templates',
  'training/recipes',
  'training/torch',
]
const LEFT_OUT = [
  /^models\/[^/]+\/data$/,
  /^native\/(bench|build.*|gpu|test)$/,
  /^training\/torch\/tests$/,
  /(^|\/)(\.[^/]*|__pycache__|tsconfig\.json)$/,
  /\.(map|ts)$/,
]
/** For `apar engine build`: a package installed elsewhere has no node_modules of its own but these. */
const HEADERS = ['node-addon-api', 'node-api-headers']
/** Of rarely used features, which say what is missing: together 6 MB. */
const OPTIONAL = ['@resvg/resvg-js', '@expo-google-fonts/lato']

/**
 * Writes the packages `apar`, `apar-engine-PLATFORM-ARCH` and, on Linux, `apar-workerd-PLATFORM-ARCH` from what is built
 * (docs/adr/0070, 0079).
 * @returns {{ apar: string, engine: string, workerd?: string }} their folders.
 */
export function writePackages(out = OUT) {
  const { name, version, description, license, type, engines, bin, dependencies } = read('package.json')
  const common = { version, license, engines }
  const apar = emptyFolder(out, name)
  for (const path of FILES) copy(path, join(apar, path))
  for (const header of HEADERS) copyHeaders(header, join(apar, 'node_modules', header))
  cpSync(join(root, 'cli/README.md'), join(apar, 'README.md'))
  writeFileSync(join(apar, 'THIRD-PARTY-LICENCES.txt'), licences())
  const { [WORKERD_PACKAGES['linux-x64']]: replaced, ...programs } = read(
    'node_modules/workerd/package.json',
  ).optionalDependencies
  if (replaced === undefined) throw new Error('workerd has no program for linux-x64')
  const pick = (names) => Object.fromEntries(names.map((each) => [each, dependencies[each]]))
  writeManifest(apar, {
    ...{ name, description, keywords: ['llm', 'inference', 'server', 'parallel-decoding', 'openai'] },
    ...{ ...common, type, bin },
    dependencies: pick(HEADERS),
    bundleDependencies: HEADERS,
    optionalDependencies: {
      ...programs,
      'apar-engine-linux-x64': version,
      'apar-workerd-linux-x64': version,
    },
    peerDependencies: pick(OPTIONAL),
    peerDependenciesMeta: Object.fromEntries(OPTIONAL.map((each) => [each, { optional: true }])),
  })

  const engine = emptyFolder(out, ENGINE_NAME)
  // Without the CUDA backend, which takes 6 MB: `apar engine build` makes it where there is a GPU.
  for (const file of ['apar.node', 'apar_compile_grammar'])
    copyStripped(join(root, 'native/build/release', file), join(engine, file))
  const grammar = join(root, 'native/build/grammar')
  if (existsSync(join(grammar, 'complete'))) cpSync(grammar, join(engine, 'grammar'), { recursive: true })
  cpSync(join(root, 'LICENSE'), join(engine, 'LICENSE'))
  writeFileSync(join(engine, 'README.md'), 'The native engine of apar.\n')
  const forPlatform = {
    ...{ os: [process.platform], cpu: [process.arch] },
    ...(process.platform === 'linux' && { libc: ['glibc'] }),
  }
  writeManifest(engine, {
    ...{ name: ENGINE_NAME, description: "apar's native engine, prebuilt", ...common },
    ...forPlatform,
  })
  const workerd = writeWorkerd(out, { ...common, ...forPlatform })
  return { apar, engine, ...(workerd && { workerd }) }
}

/** Cloudflare's program for this platform without its symbols, which are 36 of its 125 MB; undefined where it has none. */
function writeWorkerd(out, manifest) {
  const name = WORKERD_PACKAGES[PLATFORM]
  if (name === undefined) return undefined
  const folder = emptyFolder(out, WORKERD_NAME)
  const { version, license, repository } = read(`node_modules/${name}/package.json`)
  copyStripped(join(root, 'node_modules', name, 'bin/workerd'), join(folder, 'bin/workerd'))
  cpSync(join(root, 'LICENSE'), join(folder, 'LICENSE'))
  const description = `workerd ${version} by Cloudflare, the program of ${name} without its symbols`
  const readme = `${description}, for apar.
It was changed in nothing else. Its source is at ${repository}, its licence is ${license}.
`
  writeFileSync(join(folder, 'README.md'), readme)
  writeManifest(folder, { name: WORKERD_NAME, description, ...manifest })
  return folder
}

function emptyFolder(out, name) {
  const folder = join(out, name)
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder, { recursive: true })
  return folder
}

function writeManifest(folder, manifest) {
  writeFileSync(join(folder, 'package.json'), `${JSON.stringify(manifest, null, 2)}\n`)
}

function copy(path, to) {
  const source = join(root, path)
  const filter = (file) => !LEFT_OUT.some((pattern) => pattern.test(relative(root, file)))
  cpSync(source, to, { recursive: true, filter })
}

function copyHeaders(name, to) {
  const from = join(root, 'node_modules', name)
  const filter = (file) =>
    statSync(file).isDirectory()
      ? file === from || file === join(from, 'include')
      : /\.h$|^(package\.json|LICENSE.*)$/.test(basename(file))
  cpSync(from, to, { recursive: true, filter })
}

/** Without the symbols that only a debugger reads; as it is where there are no binutils. */
function copyStripped(from, to) {
  mkdirSync(dirname(to), { recursive: true })
  try {
    execFileSync('strip', ['--strip-unneeded', '-o', to, from], { stdio: 'ignore' })
  } catch {
    cpSync(from, to)
  }
}
