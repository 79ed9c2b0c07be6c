// `npm run release:check`: builds the five packages and their bill of materials in dist/packages, and lets npm check them as
// if it published them. With --publish it does; on GitHub's machines with a statement of where they were built.
import { cpSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { bundle } from '../setup/bundle.mjs'
import { getGrammarEngine } from '../setup/grammar-engine.mjs'
import { buildNative } from '../setup/native.mjs'
import { fail, info, root, run } from '../setup/report.mjs'
import { writePackages } from '../setup/write-packages.mjs'
import { notesOf } from './changelog.mjs'
import { billOfMaterials } from './sbom.mjs'

const isReal = process.argv.includes('--publish')
const OUT = join(root, 'dist/packages')
const { GITHUB_ACTIONS, GITHUB_REF_NAME, GITHUB_REPOSITORY, GITHUB_SERVER_URL } = process.env
const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))

const changelog = readFileSync(join(root, 'CHANGELOG.md'), 'utf8')
if (isReal && GITHUB_REF_NAME !== `v${version}`) fail(`the tag ${GITHUB_REF_NAME} is not v${version}`)
await Promise.all([buildNative({}), bundle(), getGrammarEngine({ licences: true })])
const { apar, engine, workerd } = writePackages(OUT)
if (workerd === undefined) fail('apar is released on Linux')
// A package comes behind those on which it depends.
const libraries = [await writeLibrary('client'), await writeLibrary('ai-sdk')]
for (const folder of [...libraries, engine, workerd, apar]) await publish(folder)
writeFileSync(join(OUT, 'apar.cdx.json'), JSON.stringify(await billOfMaterials(), null, 2))
writeFileSync(join(OUT, 'notes.md'), `${notes()}\n`)
info(`${isReal ? 'published' : 'checked'} ${version}; bill of materials and notes: ${relative('', OUT)}`)

/** As `npm pack` in client/ or ai-sdk/ makes it. */
async function writeLibrary(name) {
  const from = join(root, name)
  const { scripts: _, ...manifest } = JSON.parse(readFileSync(join(from, 'package.json'), 'utf8'))
  const folder = join(OUT, manifest.name)
  const built = await run(process.execPath, [join(from, 'build.mjs')])
  if (built.code !== 0) fail(`${manifest.name} could not be built: ${built.output.trim()}`)
  rmSync(folder, { recursive: true, force: true })
  for (const part of ['dist', 'LICENSE', 'README.md'])
    cpSync(join(from, part), join(folder, part), { recursive: true })
  writeFileSync(join(folder, 'package.json'), JSON.stringify(manifest, null, 2))
  return folder
}

async function publish(folder) {
  // npm's statement names the repository, and the registry compares it with the package's.
  if (GITHUB_REPOSITORY) {
    const file = join(folder, 'package.json')
    const url = `git+${GITHUB_SERVER_URL}/${GITHUB_REPOSITORY}.git`
    const manifest = { ...JSON.parse(readFileSync(file, 'utf8')), repository: { type: 'git', url } }
    writeFileSync(file, `${JSON.stringify(manifest, null, 2)}\n`)
  }
  const flags = ['--access', 'public', ...(GITHUB_ACTIONS ? ['--provenance'] : [])]
  const args = ['publish', ...(isReal ? [] : ['--dry-run']), ...flags]
  const { code, output } = await run('npm', args, { cwd: folder })
  if (code !== 0) {
    process.stderr.write(output)
    fail(`npm publish refuses ${relative(OUT, folder)}`)
  }
  info(/^\+ .*$/m.exec(output)?.[0] ?? relative(OUT, folder))
}

/** A version that is only checked may not be in the changelog yet. */
function notes() {
  try {
    return notesOf(changelog, version)
  } catch (error) {
    if (isReal) fail(error.message)
    return `## Unreleased (${error.message})`
  }
}
