// Builds the package that others install: one script, and the declarations. `npm pack` and `npm publish` run it. The client
// stays a package of its own, so that an AparError is the same class for both.
import { execFileSync } from 'node:child_process'
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'

const folder = dirname(fileURLToPath(import.meta.url))
const root = dirname(folder)
const out = join(folder, 'dist')
const CLIENT = '../client/index.ts'

rmSync(out, { recursive: true, force: true })
await buildScript()
buildTypes()
copyFileSync(join(root, 'LICENSE'), join(folder, 'LICENSE'))

async function buildScript() {
  await build({
    absWorkingDir: folder,
    entryPoints: ['index.ts'],
    outfile: join(out, 'index.js'),
    bundle: true,
    format: 'esm',
    platform: 'neutral',
    target: 'es2022',
    packages: 'external',
    logLevel: 'warning',
    plugins: [{ name: 'client', setup: useClient }],
  })
}

function useClient(esbuild) {
  esbuild.onResolve({ filter: /client\/index\.ts$/ }, () => ({ path: 'apar-client', external: true }))
}

function buildTypes() {
  const written = mkdtempSync(join(tmpdir(), 'apar-ai-sdk-types-'))
  try {
    const options = ['--noEmit', 'false', '--declaration', '--emitDeclarationOnly', '--rootDir', root]
    const tsc = join(root, 'node_modules/typescript/bin/tsc')
    execFileSync(process.execPath, [tsc, '-p', folder, ...options, '--outDir', written], { stdio: 'inherit' })
    mkdirSync(join(out, 'types'))
    for (const name of readdirSync(join(written, 'ai-sdk'))) {
      const text = readFileSync(join(written, 'ai-sdk', name), 'utf8')
      const rewritten = text
        .replaceAll(CLIENT, 'apar-client')
        .replace(/from '(\.[^']*)\.ts'/g, "from '$1.js'")
      writeFileSync(join(out, 'types', name), rewritten)
    }
  } finally {
    rmSync(written, { recursive: true })
  }
}
