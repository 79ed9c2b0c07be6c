// Runs the engine's own tests, part of `npm test`. Without doctest they are not built: this skips them with a
// message, or fails with CI=true.
import { existsSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { fail, info, root, run } from './setup/report.mjs'
import { findCmake, findCtest } from './setup/toolchain.mjs'

const folder = join(root, 'native/build/release')
if (existsSync(join(folder, 'test/CTestTestfile.cmake'))) {
  const jobs = String(availableParallelism())
  const args = ['--test-dir', folder, '--parallel', jobs, '--output-on-failure', '--no-tests=error']
  const { code } = await run(findCtest(await findCmake({})), args, { show: true })
  process.exit(code)
}
const reason = "the engine's tests are not built: doctest is missing (Debian: apt-get install doctest-dev)"
if (process.env.CI === 'true') fail(reason)
info(`skipped: ${reason}`)
