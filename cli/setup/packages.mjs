import { existsSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { fail, root, run, say } from './report.mjs'

/** `npm ci` when node_modules is not what package-lock.json says. No package of ours needs an install script. */
export async function installPackages(options) {
  if (isFresh()) return
  say('installing packages (npm ci) ...', options)
  const { code, output } = await run(npm(), ['ci', '--ignore-scripts', '--no-audit', '--no-fund'])
  if (code === 0) return
  const reason = output.split('\n').find((line) => /^npm (err|error)/i.test(line)) ?? `npm ended with ${code}`
  process.stderr.write(output)
  fail(`packages could not be installed: ${reason}`)
}

/** npm writes its own lock file last, so it is as old as the installation. */
function isFresh() {
  const installed = join(root, 'node_modules/.package-lock.json')
  return (
    existsSync(installed) && statSync(installed).mtimeMs >= statSync(join(root, 'package-lock.json')).mtimeMs
  )
}

function npm() {
  return process.platform === 'win32' ? 'npm.cmd' : 'npm'
}
