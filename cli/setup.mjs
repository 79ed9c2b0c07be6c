// Makes a fresh clone ready to run: packages, the native engine, the bundles. Plain JavaScript without packages,
// because it runs before there are any. Quick when nothing has changed.
import { fail } from './setup/report.mjs'

const [major] = process.versions.node.split('.')
if (Number(major) < 20)
  fail(`Node.js ${process.versions.node} is too old: apar needs 20 or newer (https://nodejs.org)`)

const asked = (option) => process.argv.includes(option)
const options = { tests: asked('--tests'), bench: asked('--bench'), quiet: asked('--quiet') }
const { installPackages } = await import('./setup/packages.mjs')
const { buildNative } = await import('./setup/native.mjs')
await installPackages(options)
// esbuild is a package: it can be loaded only now.
const { bundle } = await import('./setup/bundle.mjs')
await Promise.all([buildNative(options), bundle(options)])
