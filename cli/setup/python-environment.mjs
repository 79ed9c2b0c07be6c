import { createHash } from 'node:crypto'
import { existsSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { info, run } from './report.mjs'

/**
 * A virtual environment with the packages of a lock file, made where it is missing, in the user's cache: `purpose` names
 * the folder there. $PYTHON, else python3, makes it.
 * @returns {Promise<{folder: string, python: string} | {missing: string} | {output: string}>} `missing`: what to
 *   install first; `output`: of pip, which could not install the packages.
 */
export async function pythonEnvironment(lockFile, purpose) {
  const base = process.env.PYTHON || 'python3'
  const version = await run(base, ['-c', 'import sys; print("%d.%d" % sys.version_info[:2])'])
  if (version.code !== 0) return { missing: 'python3 with venv and pip' }
  const lock = createHash('sha256').update(readFileSync(lockFile)).digest('hex').slice(0, 12)
  const cache = join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'apar', purpose)
  const folder = join(cache, `${lock}-python${version.output.trim()}`)
  const complete = join(folder, 'complete')
  const made = { folder: complete, python: join(complete, 'bin/python') }
  if (existsSync(made.python)) return made
  info(`installing ${lockFile} in ${folder} (once) ...`)
  const making = join(folder, `making-${process.pid}`)
  if ((await run(base, ['-m', 'venv', '--copies', making])).code !== 0) return { missing: 'python3-venv' }
  const pip = ['-m', 'pip', '--disable-pip-version-check', '--no-input', 'install', '--only-binary', ':all:']
  // The lock has all of them; some say that others should be older.
  const installed = await run(join(making, 'bin/python'), [...pip, '-q', '--no-deps', '-r', lockFile])
  if (installed.code !== 0) {
    rmSync(making, { recursive: true, force: true })
    return { output: installed.output }
  }
  // Only python -m is used: scripts in bin/ keep the old path.
  try {
    renameSync(making, complete)
  } catch (error) {
    if (!existsSync(made.python)) throw error
    rmSync(making, { recursive: true, force: true }) // another process was faster
  }
  return made
}
