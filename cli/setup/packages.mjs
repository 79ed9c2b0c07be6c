import { existsSync, statSync, utimesSync } from 'node:fs'
import { join } from 'node:path'
import { fail, root, run, say } from './report.mjs'

const installed = join(root, 'node_modules/.package-lock.json')

/**
 * Installs when node_modules is older than package-lock.json. No package of ours needs an install script. Not `npm ci`:
 * it refuses a lock file that was written where not every platform's optional binaries were to be had; this takes the
 * locked versions all the same, adds what this platform needs, and changes no file of ours.
 */
export async function installPackages(options) {
  if (isFresh()) return
  say('installing packages (npm install) ...', options)
  const flags = ['--no-save', '--ignore-scripts', '--no-audit', '--no-fund']
  const { code, output } = await run(npm(), ['install', ...flags])
  if (code === 0 && existsSync(installed)) {
    // npm leaves the file alone when there was nothing to do.
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
