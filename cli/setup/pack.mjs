// `npm run pack`: builds the packages that others install into dist/packages, ready for `npm pack` and `npm publish`:
// `apar`, with the command, the edge, the models of this repository and the engine's sources, and
// `apar-engine-PLATFORM-ARCH`, with the engine as it was built here (docs/adr/0070), and `apar-workerd-PLATFORM-ARCH`
// (docs/adr/0079). `apar-client` and `apar-ai-sdk` are built where they lie.
import { readdirSync, statSync } from 'node:fs'
import { join, relative } from 'node:path'
import { bundle } from './bundle.mjs'
import { getGrammarEngine } from './grammar-engine.mjs'
import { buildNative } from './native.mjs'
import { info, root } from './report.mjs'
import { writePackages } from './write-packages.mjs'

await Promise.all([buildNative({}), bundle(), getGrammarEngine({ licences: true })])
for (const folder of Object.values(writePackages())) {
  const files = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((file) => file.isFile())
  const bytes = files.reduce((sum, file) => sum + statSync(join(file.parentPath, file.name)).size, 0)
  info(`${relative(root, folder)}: ${files.length} files, ${(bytes / 1e6).toFixed(1)} MB`)
}
