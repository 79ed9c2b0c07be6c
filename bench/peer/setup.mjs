// Builds the bench's peer: installs node-llama-cpp beside this file, extracts llama.cpp's source from it and
// builds it with the driver, for this CPU only. Needs git, CMake and a compiler; takes about ten minutes on two
// free cores.
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'

const here = import.meta.dirname
const source = join(here, 'build/llama.cpp')
const built = join(here, 'build/release')

function run(command, ...args) {
  const { status, error } = spawnSync(command, args, { cwd: here, stdio: ['ignore', 2, 2] })
  if (status === 0) return
  console.error(`peer: ${command} ${args[0]} failed: ${error?.message ?? `it ended with ${status}`}`)
  process.exit(1)
}

const manifest = JSON.parse(readFileSync(join(here, 'package.json'), 'utf8'))
const version = manifest.dependencies['node-llama-cpp']
// The optional packages are prebuilt binaries for each kind of GPU; only the CPU one is needed, and it is not in
// the lock file.
const flags = ['--ignore-scripts', '--omit=optional', '--no-audit', '--no-fund']
// Not `npm ci`, which refuses a lock file that lacks packages of other platforms.
run('npm', 'install', '--no-save', ...flags)
run('npm', 'install', '--no-save', ...flags, `@node-llama-cpp/linux-${process.arch}@${version}`)

if (!existsSync(source)) {
  mkdirSync(join(here, 'build'), { recursive: true })
  run('git', 'clone', '--quiet', 'node_modules/node-llama-cpp/llama/gitRelease.bundle', source)
}
run('cmake', '-S', '.', '-B', built, '-DCMAKE_BUILD_TYPE=Release')
run('nice', '-n', '19', 'cmake', '--build', built, '--parallel', String(availableParallelism()))
console.error('peer: built; npm run -s bench -- engine now compares with it')
