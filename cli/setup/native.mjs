import { existsSync, mkdirSync, readFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { fail, root, run, say } from './report.mjs'
import { findCmake, findCompiler, findGenerator } from './toolchain.mjs'

const buildFolder = join(root, 'native/build/release')

/** Builds native/build/release with CMake; its own look at the sources says what is stale. */
export async function buildNative(options) {
  const cmake = await findCmake(options)
  if (needsConfiguring(options)) {
    const compiler = await findCompiler()
    if (!compiler) {
      fail('no C++20 compiler found: install g++ >= 10 or clang >= 12 (Debian: apt-get install g++ make)')
    }
    const generator = await findGenerator()
    if (!generator) fail('neither make nor ninja found: install one (Debian: apt-get install make)')
    say(`building the engine with ${compiler} ...`, options)
    mkdirSync(buildFolder, { recursive: true })
    const configured = await run(cmake, [
      ...['-S', join(root, 'native'), '-B', buildFolder, '-G', generator],
      ...[
        '-DCMAKE_BUILD_TYPE=Release',
        `-DCMAKE_CXX_COMPILER=${compiler}`,
        '-DAPAR_ADDON=ON',
        '-DAPAR_BENCH=OFF',
      ],
      `-DAPAR_TESTS=${options.tests ? 'ON' : 'OFF'}`,
    ])
    if (configured.code !== 0) failBuild('CMake could not configure the engine', configured.output)
  }
  const jobs = String(availableParallelism())
  const built = await run(cmake, ['--build', buildFolder, '--parallel', jobs])
  if (built.code !== 0) failBuild('the engine did not compile', built.output)
}

/** Configured once, CMake keeps itself up to date; only other options need a new run. */
function needsConfiguring({ tests }) {
  const cache = join(buildFolder, 'CMakeCache.txt')
  const made = existsSync(join(buildFolder, 'build.ninja')) || existsSync(join(buildFolder, 'Makefile'))
  if (!made || !existsSync(cache)) return true
  const text = readFileSync(cache, 'utf8')
  const source = /^CMAKE_HOME_DIRECTORY:INTERNAL=(.*)$/m.exec(text)?.[1]
  if (source !== join(root, 'native')) return true
  return !text.includes('APAR_ADDON:BOOL=ON') || (tests && !text.includes('APAR_TESTS:BOOL=ON'))
}

function failBuild(what, output) {
  process.stderr.write(output)
  const errors = output.split('\n').filter((line) => /error/i.test(line))
  fail(`${what}: ${errors[0]?.trim() ?? 'see above'}`)
}
