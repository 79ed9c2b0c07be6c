import { copyFile, mkdir } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const webFolder = join(root, 'dist/web')

export const workerPath = join(root, 'dist/edge/worker.js')

/** The worker's options for workerd on this machine (cli/local/workerd-config.ts), the same as in wrangler.toml. */
export const workerOptions = {
  name: 'apar',
  // In the folder of workerPath.
  modules: ['worker.js'],
  compatibilityDate: '2026-04-26',
  compatibilityFlags: ['enable_request_signal'],
  durableObjects: {
    STREAM_SESSION: { className: 'StreamSession' },
    STREAM_RECORDS: { className: 'StreamRecords' },
    SHARED_SOCKET: { className: 'SharedSocket' },
    DIALLED_IN_NODE: { className: 'DialledInNode' },
    FLEET: { className: 'Fleet' },
    KEY_LIMITS: { className: 'KeyLimits' },
    KEY_STORE: { className: 'KeyStore' },
    ADDRESS_SOCKETS: { className: 'AddressSockets' },
    FEEDBACK: { className: 'FeedbackStore' },
    RESPONSES: { className: 'ResponseStore' },
  },
  ratelimits: { IP_RATE_LIMIT: { simple: { limit: 10_000, period: 10 } } },
}

/** esbuild's plugin against zod's messages in forty languages, a third of a bundle. English is its default. */
export const englishOnly = {
  name: 'english-only',
  setup({ onLoad }) {
    const filter = /[\\/]zod[\\/]v4[\\/]locales[\\/]index\.js$/
    onLoad({ filter }, () => ({ contents: "export { default as en } from './en.js'" }))
  },
}

// esbuild is imported where it builds: `apar serve` needs only the options.

/** Builds the chat page into dist/web, and the worker, which includes the page, into dist/edge. */
export async function buildEdge() {
  const { build } = await import('esbuild')
  await buildPage()
  await build({
    absWorkingDir: root,
    entryPoints: { worker: join(root, 'edge/index.ts') },
    outdir: dirname(workerPath),
    bundle: true,
    format: 'esm',
    target: 'es2023',
    conditions: ['workerd', 'worker', 'browser'],
    external: ['cloudflare:*'],
    plugins: [englishOnly],
    // Smaller: workerd gets it in a message, and parses it at each start. Names stay.
    minifySyntax: true,
    minifyWhitespace: true,
    loader: { '.html': 'text', '.txt': 'text' },
    sourcemap: true,
    logLevel: 'warning',
  })
}

/** Script and style end in `.txt`, so that bundlers include them as text to serve, not as code to run. */
export async function buildPage() {
  const { build } = await import('esbuild')
  await mkdir(webFolder, { recursive: true })
  await copyFile(join(root, 'edge/web/index.html'), join(webFolder, 'index.html'))
  await build({
    absWorkingDir: root,
    entryPoints: [
      { in: join(root, 'edge/web/main.tsx'), out: 'chat.js' },
      { in: join(root, 'edge/web/chat.css'), out: 'chat.css' },
    ],
    outdir: webFolder,
    outExtension: { '.js': '.txt', '.css': '.txt' },
    bundle: true,
    format: 'esm',
    target: ['es2023', 'chrome123', 'firefox120', 'safari17.5'],
    minify: true,
    jsx: 'automatic',
    jsxImportSource: 'preact',
    plugins: [englishOnly],
    logLevel: 'warning',
  })
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await buildEdge()
