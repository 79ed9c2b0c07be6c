import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { build } from 'esbuild'
import { fail, root } from './report.mjs'

/**
 * Bundles the command (dist/apar.js), the client library (dist/client.js), the edge, and the development tools
 * bench and chaos.
 */
export async function bundle() {
  const entries = {
    apar: 'cli/main.ts',
    bench: 'bench/main.ts',
    'paced-node': 'bench/edge/paced-node.ts',
    chaos: 'test/chaos/main.ts',
  }
  const entryPoints = Object.entries(entries)
    .filter(([, file]) => existsSync(join(root, file)))
    .map(([out, file]) => ({ in: join(root, file), out }))
  const shared = {
    absWorkingDir: root,
    outdir: join(root, 'dist'),
    bundle: true,
    format: 'esm',
    sourcemap: true,
  }
  try {
    await Promise.all([
      build({
        ...shared,
        entryPoints,
        platform: 'node',
        target: 'node20',
        // Packages are not bundled; the native engine and the worker are loaded at run time.
        packages: 'external',
        logLevel: 'warning',
      }),
      build({
        ...shared,
        entryPoints: { client: join(root, 'client/index.ts') },
        target: 'es2023',
        logLevel: 'warning',
      }),
      import('../../edge/build.mjs').then(({ buildEdge }) => buildEdge()),
    ])
  } catch (error) {
    // esbuild's message contains only the number of errors.
    const reason = error.errors?.[0]?.text ?? error.message
    fail(`the bundles could not be built: ${String(reason).split('\n')[0]}`)
  }
}
