// `npm run check`: checks format, lint and types of everything; changes no files. `--format-native` formats the
// C++ code.
import { readdirSync } from 'node:fs'
import { join, relative } from 'node:path'
import { fail, info, root, run } from './setup/report.mjs'

const NATIVE = /\.(h|cpp|cu|cuh)$/
const SKIPPED_FOLDERS = new Set(['node_modules', 'dist', 'build', 'work', '.git', '.wrangler'])

function* walk(folder) {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    if (entry.isDirectory() && !SKIPPED_FOLDERS.has(entry.name)) yield* walk(join(folder, entry.name))
    else if (entry.isFile()) yield join(folder, entry.name)
  }
}

async function clangFormat(...args) {
  if ((await run('clang-format', ['--version'])).code !== 0) {
    const reason = 'clang-format is not installed (Debian: apt-get install clang-format)'
    if (process.env.CI === 'true') return { name: 'clang-format', code: 1, output: `${reason}\n` }
    info(`C++ formatting is not checked: ${reason}`)
    return { name: 'clang-format', code: 0, output: '' }
  }
  const files = [...walk(join(root, 'native'))].filter((file) => NATIVE.test(file))
  return { name: 'clang-format', ...(await run('clang-format', [...args, ...files])) }
}

async function types(config) {
  const where = relative(root, config)
  return { name: `tsc -p ${where}`, ...(await run(bin('tsc'), ['-p', config])) }
}

function bin(name) {
  return join(root, 'node_modules/.bin', process.platform === 'win32' ? `${name}.cmd` : name)
}

if (process.argv.includes('--format-native')) {
  const { code, output } = await clangFormat('-i')
  process.stderr.write(output)
  process.exit(code)
}

const configs = [...walk(root)].filter((file) => file.endsWith('tsconfig.json')).sort()
const results = [
  { name: 'biome', ...(await run(bin('biome'), ['ci', '--colors=off', '--log-level=error', root])) },
  await clangFormat('--dry-run', '-Werror'),
]
for (const config of configs) results.push(await types(config))
const failed = results.filter(({ code }) => code !== 0)
for (const { name, output } of failed) process.stderr.write(`${output.trimEnd()}\napar: ${name} failed\n`)
if (failed.length > 0) fail(`check: ${failed.length} of ${results.length} failed`)
info(`check: format, lint and types of ${configs.length} parts are good`)
