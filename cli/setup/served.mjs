import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fail, root } from './report.mjs'

const START_MS = 120_000

/**
 * Starts `apar serve` on any free port, and waits for the address and the key that it prints.
 * @param {readonly string[]} options of apar serve
 * @returns {Promise<{url: string, key: string, close: () => Promise<void>}>}
 */
export async function serve(options, env = {}) {
  const args = [join(root, 'dist/apar.js'), 'serve', '--port', '0', ...options]
  const child = spawn(process.execPath, args, {
    cwd: root,
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  const ended = new Promise((resolve) => child.once('exit', resolve))
  const late = setTimeout(() => child.kill(), START_MS)
  let url
  for await (const line of createInterface({ input: child.stdout })) {
    url ??= /^apar serves \S+ at (http:\S+)$/.exec(line)?.[1]
    const key = /^ {2}key +(\S+)$/.exec(line)?.[1]
    if (!url || !key) continue
    clearTimeout(late)
    child.stdout.resume()
    const close = async () => {
      child.kill('SIGTERM')
      await ended
    }
    return { url, key, close }
  }
  return fail('apar serve did not start')
}
