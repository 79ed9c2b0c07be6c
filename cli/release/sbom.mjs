import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fail, root, run } from '../setup/report.mjs'

const read = (path) => readFileSync(join(root, path), 'utf8')

/**
 * A bill of materials in CycloneDX's format: the npm packages of which code may be in the release, and the Python
 * packages whose libraries are in the engine's.
 */
export async function billOfMaterials() {
  const { code, output } = await run('npm', ['sbom', '--sbom-format', 'cyclonedx'])
  if (code !== 0) fail(`npm sbom: ${output.trim().split('\n').at(-1)}`)
  const bill = JSON.parse(output.slice(output.indexOf('{')))
  // npm takes the name of the folder.
  bill.metadata.component.name = 'apar'
  // Not by its option --omit dev: that also leaves out what both we and a package of the tests need, zod for one.
  const isOfTests = ({ name }) => name === 'cdx:npm:package:development'
  bill.components = bill.components.filter(({ properties = [] }) => !properties.some(isOfTests))
  for (const [, name, version] of read('native/grammar/requirements.lock').matchAll(/^([\w-]+)==(\S+)/gm)) {
    const purl = `pkg:pypi/${name}@${version}`
    bill.components.push({ 'bom-ref': purl, type: 'library', name, version, purl, scope: 'optional' })
  }
  const here = new Set([bill.metadata.component, ...bill.components].map((each) => each['bom-ref']))
  bill.dependencies = bill.dependencies
    .filter(({ ref }) => here.has(ref))
    .map(({ ref, dependsOn }) => ({ ref, dependsOn: dependsOn.filter((each) => here.has(each)) }))
  return bill
}
