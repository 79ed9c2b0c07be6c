import { existsSync, mkdirSync, readFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { fail, info, root, run } from './report.mjs'
import { findCmake, findCompiler, findGenerator } from './toolchain.mjs'

const buildFolder = join(root, 'native/build/release')

/** Builds native/build/release with CMake, which rebuilds only changed sources. */
export async function buildNative(options) {
  const before = configured()
  // Options that are on stay on, so that alternating between tests and benches does not reconfigure.
  const wanted = new Set(['APAR_ADDON', ...(before ?? [])])
  if (options.tests) wanted.add('APAR_TESTS')
  if (options.bench) wanted.add('APAR_BENCH')
  const stale = !before || wanted.size > before.size
  if (stale) await configure(wanted, options)
  const jobs = String(availableParallelism())
  const built = await run(await findCmake(options), ['--build', buildFolder, '--parallel', jobs])
  if (built.code !== 0) failBuild('the engine did not compile', built.output)
  if (options.tests && !existsSync(join(buildFolder, 'libapar_cuda.so')))
    info('the CUDA backend was not compiled: there is no nvcc on the PATH', options)
}

async function configure(wanted, options) {
  const compiler = await findCompiler()
  if (!compiler) {
    fail('no C++20 compiler found: install g++ >= 10 or clang >= 12 (Debian: apt-get install g++ make)')
  }
  const generator = await findGenerator()
  if (!generator) fail('neither make nor ninja found: install one (Debian: apt-get install make)')
  // Last, because CMake may have to be downloaded.
  const cmake = await findCmake(options)
  info(`building the engine with ${compiler} ...`, options)
  mkdirSync(buildFolder, { recursive: true })
  const configuring = await run(cmake, [
    ...['-S', join(root, 'native'), '-B', buildFolder, '-G', generator],
    ...['-DCMAKE_BUILD_TYPE=Release', `-DCMAKE_CXX_COMPILER=${compiler}`],
    ...['APAR_ADDON', 'APAR_TESTS', 'APAR_BENCH'].map(
      (option) => `-D${option}=${wanted.has(option) ? 'ON' : 'OFF'}`,
    ),
  ])
  if (configuring.code !== 0) failBuild('CMake could not configure the engine', configuring.output)
}

/** The APAR_ options that the last configuration switched on; undefined when these sources were never configured. */
function configured() {
  const cache = join(buildFolder, 'CMakeCache.txt')
  const made = existsSync(join(buildFolder, 'build.ninja')) || existsSync(join(buildFolder, 'Makefile'))
  if (!made || !existsSync(cache)) return undefined
  const text = readFileSync(cache, 'utf8')
  const source = /^CMAKE_HOME_DIRECTORY:INTERNAL=(.*)$/m.exec(text)?.[1]
  if (source !== join(root, 'native')) return undefined
  return new Set(Array.from(text.matchAll(/^(APAR_\w+):BOOL=ON$/gm), ([, option]) => option))
}

function failBuild(what, output) {
  process.stderr.write(output)
  const errors = output
    .split('\n')
    .filter((line) => /\berror: |CMake Error|^ld: |undefined reference/.test(line))
  fail(`${what}: ${errors[0]?.trim() ?? 'see above'}`)
}
