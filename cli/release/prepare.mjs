// `npm run release -- VERSION`: gives the packages and the changelog a new version; commits nothing.
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fail, info, root } from '../setup/report.mjs'
import { released } from './changelog.mjs'

const [version = ''] = process.argv.slice(2)
if (!/^\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?$/.test(version)) fail('usage: npm run release -- 1.2.3')

try {
  rewrite('CHANGELOG.md', (text) => released(text, version))
} catch (error) {
  fail(error.message)
}
for (const file of ['package.json', 'client/package.json', 'ai-sdk/package.json', 'package-lock.json'])
  rewrite(file, (text) => {
    const manifest = JSON.parse(text)
    manifest.version = version
    if (manifest.packages) manifest.packages[''].version = version
    if (manifest.dependencies?.['apar-client']) manifest.dependencies['apar-client'] = version
    return `${JSON.stringify(manifest, null, 2)}\n`
  })
info(`${version} is prepared: commit it as "Version ${version}", tag it v${version}, push both`)

function rewrite(file, change) {
  const path = join(root, file)
  writeFileSync(path, change(readFileSync(path, 'utf8')))
}
