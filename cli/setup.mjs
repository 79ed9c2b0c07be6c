// Prepares a fresh clone: installs packages, builds the native engine and the bundles. Plain JavaScript without
// packages, because it runs before they are installed. Fast when nothing has changed.
import { fail } from './setup/report.mjs'

const [major] = process.versions.node.split('.')
if (Number(major) < 20)
  fail(`Node.js ${process.versions.node} is too old: apar needs 20 or newer (https://nodejs.org)`)

const has = (option) => process.argv.includes(option)
const options = { tests: has('--tests'), bench: has('--bench'), quiet: has('--quiet') }
const { installPackages } = await import('./setup/packages.mjs')
const { buildNative } = await import('./setup/native.mjs')
await installPackages(options)
// esbuild is a package: it can be imported only after the installation.
const { getGrammarEngine } = await import('./setup/grammar-engine.mjs')
const { bundle } = await import('./setup/bundle.mjs')
await Promise.all([buildNative(options), bundle(options), getGrammarEngine(options)])
