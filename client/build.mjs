// Builds the package that others install: the script in both module systems, and the declarations of what it exports.
// `npm pack` and `npm publish` run it.
import { execFileSync } from 'node:child_process'
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'

const folder = dirname(fileURLToPath(import.meta.url))
const root = dirname(folder)
const out = join(folder, 'dist')
const SPECIFIER = /from '(\.[^']*)\.ts'/g

rmSync(out, { recursive: true, force: true })
await Promise.all([buildScript('esm', 'index.js'), buildScript('cjs', 'index.cjs')])
buildTypes()
copyFileSync(join(root, 'LICENSE'), join(folder, 'LICENSE'))

async function buildScript(format, name) {
  await build({
    absWorkingDir: folder,
    entryPoints: ['index.ts'],
    outfile: join(out, name),
    bundle: true,
    format,
    platform: 'neutral',
    target: 'es2022',
    logLevel: 'warning',
  })
}

/** The compiler writes declarations of all files; the package has those that index.ts leads to. */
function buildTypes() {
  const written = mkdtempSync(join(tmpdir(), 'apar-client-types-'))
  try {
    const options = ['--noEmit', 'false', '--declaration', '--emitDeclarationOnly', '--rootDir', root]
    const tsc = join(root, 'node_modules/typescript/bin/tsc')
    execFileSync(process.execPath, [tsc, '-p', folder, ...options, '--outDir', written], { stdio: 'inherit' })
    for (const file of reachable(join(written, 'client/index.d.ts'))) {
      const name = join(out, 'types', relative(written, file))
      const text = readFileSync(file, 'utf8')
      mkdirSync(dirname(name), { recursive: true })
      // One copy for each module system: in a package of modules, a .d.ts describes a module.
      writeFileSync(
        name,
        text.replace(SPECIFIER, (_, path) => `from '${path}.js'`),
      )
      writeFileSync(
        name.replace(/\.d\.ts$/, '.d.cts'),
        text.replace(SPECIFIER, (_, path) => `from '${path}.cjs'`),
      )
    }
  } finally {
    rmSync(written, { recursive: true })
  }
}

function reachable(entry) {
  const found = new Set([entry])
  for (const file of found) {
    const text = readFileSync(file, 'utf8')
    for (const [, path] of text.matchAll(SPECIFIER)) found.add(join(dirname(file), `${path}.d.ts`))
    const [, foreign] = /from '([^.'][^']*)'/.exec(text) ?? []
    if (foreign)
      throw new Error(
        `${relative(root, file)} needs the types of ${foreign}: the package has no dependencies`,
      )
  }
  return found
}
