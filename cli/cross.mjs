// Cross-compiles the tests of the CPU kernels for 64-bit ARM and runs them under qemu-user, as one emulated processor
// after the other. CI runs it after the sanitizers; locally it is skipped with a reason when a package is missing.
import { existsSync, mkdirSync, rmSync, symlinkSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { fail, info, root, run } from './setup/report.mjs'
import { findCmake, findCtest, findGenerator } from './setup/toolchain.mjs'

const KERNEL_TESTS = ['test_kernels', 'test_packed', 'test_cpu_ops']
/** Whole models take a minute of emulation, so only the processor with all kernels runs them. */
const TESTS = [...KERNEL_TESTS, 'test_model']
/** Processors of qemu and the fastest kernels that each runs: the tests of kernels run all up to these. */
const PROCESSORS = [
  { cpu: 'cortex-a72', isa: 'neon', tests: KERNEL_TESTS },
  { cpu: 'neoverse-n1', isa: 'neon_dotprod', tests: KERNEL_TESTS },
  { cpu: 'max', isa: 'neon_bf16', tests: TESTS },
]
const NEEDED = [
  { command: 'aarch64-linux-gnu-g++', package: 'g++-aarch64-linux-gnu' },
  { command: 'qemu-aarch64', package: 'qemu-user' },
]
const DOCTEST = ['/usr/include/doctest', '/usr/local/include/doctest', '/opt/homebrew/include/doctest']

const doctest = DOCTEST.find((folder) => existsSync(join(folder, 'doctest.h')))
const missing = doctest ? [] : ['doctest-dev']
for (const { command, package: name } of NEEDED)
  if ((await run(command, ['--version'])).code !== 0) missing.push(name)
if (missing.length > 0 || !doctest) {
  const reason = `the ARM kernels are not tested: install ${missing.join(', ')} (Debian)`
  if (process.env.CI === 'true') fail(reason)
  info(`skipped: ${reason}`)
  process.exit(0)
}

const folder = join(root, 'native/build/aarch64')
// Not doctest's own folder, which is also that of this machine's C library.
const headers = join(folder, 'headers')
mkdirSync(headers, { recursive: true })
rmSync(join(headers, 'doctest'), { force: true })
symlinkSync(doctest, join(headers, 'doctest'))

const jobs = String(availableParallelism())
const cmake = await findCmake({})
const generator = await findGenerator()
if (!generator) fail('neither make nor ninja found: install one (Debian: apt-get install make)')
info('cross-compiling the tests of the CPU kernels for ARM ...')
await step(cmake, [
  ...['-S', join(root, 'native'), '-B', folder, '-G', generator],
  `-DCMAKE_TOOLCHAIN_FILE=${join(root, 'native/cmake/aarch64-linux-gnu.cmake')}`,
  ...[`-DDOCTEST_INCLUDE_DIR=${headers}`, '-DAPAR_WERROR=ON', '-DAPAR_BENCH=OFF', '-DAPAR_CUDA=OFF'],
])
await step(cmake, ['--build', folder, '--parallel', jobs, '--target', ...TESTS])
for (const { cpu, isa, tests } of PROCESSORS) {
  info(`the CPU kernels on an emulated ${cpu}, up to ${isa} ...`)
  // APAR_CPU makes a processor that lacks the kernels it stands for an error, not a test of fewer kernels.
  await step(
    findCtest(cmake),
    [
      ...['--test-dir', folder, '--parallel', jobs, '--output-on-failure', '--no-tests=error'],
      ...['-R', `^(${tests.join('|')})$`],
    ],
    { show: true, env: { ...process.env, QEMU_CPU: cpu, APAR_CPU: isa } },
  )
}

async function step(command, args, options = {}) {
  const { code, output } = await run(command, args, options)
  if (code === 0) return
  process.stderr.write(output)
  fail(`${command} ${args[0]} failed`)
}
