import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** The folder with package.json; this file may be part of a bundle in dist/chunks. */
export const root = findRoot(dirname(fileURLToPath(import.meta.url)))

function findRoot(folder) {
  return existsSync(join(folder, 'package.json')) ? folder : findRoot(dirname(folder))
}

/** @param {string} line @returns {never} */
export function fail(line) {
  console.error(`apar: ${line}`)
  process.exit(1)
}

/** Prints a line of progress to standard error. */
export function info(line, { quiet = false } = {}) {
  if (!quiet) console.error(`apar: ${line}`)
}

/**
 * Runs a program, by default in the package's root folder, without a shell.
 * @returns {Promise<{code: number, output: string}>} code 127 when the program does not exist; output contains
 *   both streams.
 */
export function run(command, args, { show = false, env = process.env, cwd = root } = {}) {
  return new Promise((resolve) => {
    const child = spawn(command, args, {
      cwd,
      env,
      stdio: ['ignore', show ? 2 : 'pipe', show ? 2 : 'pipe'],
    })
    let output = ''
    child.stdout?.on('data', (chunk) => {
      output += chunk
    })
    child.stderr?.on('data', (chunk) => {
      output += chunk
    })
    child.on('error', () => resolve({ code: 127, output }))
    child.on('close', (code) => resolve({ code: code ?? 1, output }))
  })
}
