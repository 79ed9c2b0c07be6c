import { existsSync, statSync, utimesSync } from 'node:fs'
import { join } from 'node:path'
import { fail, info, root, run } from './report.mjs'

const installed = join(root, 'node_modules/.package-lock.json')

/**
 * Installs the packages when node_modules is older than package-lock.json. No package needs an install script.
 * Not `npm ci`: it refuses a lock file that lacks optional binaries of some platforms. `npm install --no-save`
 * also installs the locked versions, adds this platform's binaries, and does not change the lock file.
 */
export async function installPackages(options) {
  if (isFresh()) return
  info('installing packages (npm install) ...', options)
  const flags = ['--no-save', '--ignore-scripts', '--no-audit', '--no-fund']
  const { code, output } = await run(npm(), ['install', ...flags])
  if (code === 0 && existsSync(installed)) {
    // npm does not touch the file when nothing was installed.
    utimesSync(installed, new Date(), new Date())
    return
  }
  const reason = output.split('\n').find((line) => /^npm (err|error)/i.test(line)) ?? `npm ended with ${code}`
  process.stderr.write(output)
  fail(`packages could not be installed: ${reason}`)
}

function isFresh() {
  return (
    existsSync(installed) && statSync(installed).mtimeMs >= statSync(join(root, 'package-lock.json')).mtimeMs
  )
}

function npm() {
  return process.platform === 'win32' ? 'npm.cmd' : 'npm'
}
