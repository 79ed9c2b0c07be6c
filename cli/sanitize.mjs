// Runs the engine's own tests with AddressSanitizer and UndefinedBehaviorSanitizer, then the tests that use
// threads with ThreadSanitizer. CI runs it after `npm test`.
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { fail, info, root, run } from './setup/report.mjs'
import { findCmake, findCtest, findGenerator } from './setup/toolchain.mjs'

/** Without `tests`, all of them. */
const BUILDS = [
  { name: 'asan', sanitize: 'address,undefined' },
  {
    name: 'tsan',
    sanitize: 'thread',
    tests: ['test_cpu_ops', 'test_engine', 'test_model', 'test_thread_pool'],
  },
]

const jobs = String(availableParallelism())
const cmake = await findCmake({})
const generator = await findGenerator()
if (!generator) fail('neither make nor ninja found: install one (Debian: apt-get install make)')
for (const { name, sanitize, tests } of BUILDS) {
  info(`the engine's tests with -fsanitize=${sanitize} ...`)
  const folder = join(root, 'native/build', name)
  await step(cmake, [
    ...['-S', join(root, 'native'), '-B', folder, '-G', generator],
    ...[
      '-DCMAKE_BUILD_TYPE=RelWithDebInfo',
      `-DAPAR_SANITIZE=${sanitize}`,
      '-DAPAR_BENCH=OFF',
      '-DAPAR_CUDA=OFF',
    ],
  ])
  await step(cmake, ['--build', folder, '--parallel', jobs, ...(tests ? ['--target', ...tests] : [])])
  const args = [
    ...['--test-dir', folder, '--parallel', jobs],
    ...(tests ? ['-R', `^(${tests.join('|')})$`] : []),
    ...['--output-on-failure', '--no-tests=error'],
  ]
  await step(findCtest(cmake), args, { show: true })
}

async function step(command, args, options = {}) {
  const { code, output } = await run(command, args, options)
  if (code === 0) return
  process.stderr.write(output)
  fail(`${command} ${args[0]} failed`)
}
