import { existsSync, readdirSync, rmSync } from 'node:fs'
import { basename, join } from 'node:path'
import { build } from 'esbuild'
import { buildEdge, englishOnly } from '../../edge/build.mjs'
import { fail, root } from './report.mjs'

const shared = {
  absWorkingDir: root,
  outdir: join(root, 'dist'),
  bundle: true,
  format: 'esm',
  sourcemap: true,
  logLevel: 'warning',
}

/**
 * Packages are bundled: a hundred files take longer to load than one, and an installation has only the code that is
 * used. Not those with native code. The native engine and the workers are loaded at run time.
 */
const onNode = {
  ...shared,
  platform: 'node',
  target: 'node20',
  // Modules come first: of a package in CommonJS, a chunk that is imported later exports the default only.
  mainFields: ['module', 'main'],
  // Names stay, for stack traces. To shorten them and keep them beside (keepNames) costs 40 ms of each start.
  minifySyntax: true,
  minifyWhitespace: true,
  external: ['@resvg/resvg-js', 'esbuild', 'workerd'],
  plugins: [englishOnly],
  // For the packages in CommonJS.
  banner: {
    js: "import { createRequire as requireFrom } from 'node:module'; const require = requireFrom(import.meta.url);",
  },
}

/**
 * The command, the processes that encode prompts (gpu-node/text/prompt-process.ts), and the threads that encode conversations
 * (training/data/pipeline/pool.ts), which tests of the sources start, too. `apar serve` starts twice, as server and as
 * node, and loads only the code of these commands: dist/chunks has the rest.
 */
export async function bundleCommand() {
  const entryPoints = {
    apar: join(root, 'cli/main.ts'),
    'prompt-worker': join(root, 'gpu-node/text/prompt-worker.ts'),
    'data-worker': join(root, 'training/data/pipeline/worker.ts'),
  }
  const chunks = join(root, 'dist/chunks')
  const { metafile } = await build({
    ...onNode,
    entryPoints,
    splitting: true,
    chunkNames: 'chunks/[name]-[hash]',
    metafile: true,
  })
  const written = new Set(Object.keys(metafile.outputs).map((file) => basename(file)))
  for (const name of readdirSync(chunks)) if (!written.has(name)) rmSync(join(chunks, name))
}

/**
 * Bundles the command (dist/apar.js), the edge, and the development tools bench and chaos. The client is built when it is
 * packed (client/build.mjs).
 */
export async function bundle() {
  const entries = {
    bench: 'bench/main.ts',
    'paced-node': 'bench/edge/paced-node.ts',
    chaos: 'test/chaos/main.ts',
  }
  const entryPoints = Object.entries(entries)
    .filter(([, file]) => existsSync(join(root, file)))
    .map(([out, file]) => ({ in: join(root, file), out }))
  try {
    await Promise.all([bundleCommand(), build({ ...onNode, entryPoints }), buildEdge()])
  } catch (error) {
    // esbuild's message contains only the number of errors.
    const reason = error.errors?.[0]?.text ?? error.message
    fail(`the bundles could not be built: ${String(reason).split('\n')[0]}`)
  }
}
