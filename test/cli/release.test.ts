import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { notesOf, released } from '../../cli/release/changelog.mjs'
import { billOfMaterials } from '../../cli/release/sbom.mjs'
import { packageRoot } from '../../gpu-node/package-root.ts'

const read = (path: string) => readFileSync(join(packageRoot, path), 'utf8')

describe('the changelog', () => {
  const text = '# Changelog\n\n## Unreleased\n- new\n  thing\n\n## 0.1.0\n- first\n'

  test('gives what was not released to a version', () => {
    const next = released(text, '0.2.0')
    expect(next).toBe('# Changelog\n\n## Unreleased\n\n## 0.2.0\n- new\n  thing\n\n## 0.1.0\n- first\n')
    expect(notesOf(next, '0.2.0')).toBe('- new\n  thing')
    expect(notesOf(next, '0.1.0')).toBe('- first')
  })

  test('has a version once, and something about it', () => {
    expect(() => released(text, '0.1.0')).toThrow('has 0.1.0 already')
    expect(() => released(released(text, '0.2.0'), '0.3.0')).toThrow('says nothing of 0.3.0')
    expect(() => notesOf(text, '0.2.0')).toThrow('no heading "## 0.2.0"')
    // 0.1.0 is not a part of 10.1.0.
    expect(() => notesOf('# Changelog\n\n## 10.1.0\n- x\n', '0.1.0')).toThrow('no heading')
  })

  test('of this repository can be released', () => {
    expect(notesOf(released(read('CHANGELOG.md'), '99.0.0'), '99.0.0').length).toBeGreaterThan(100)
  })
})

test('the bill of materials has what is bundled, and what comes as a library, but no tool of the tests', async () => {
  const { bomFormat, metadata, components } = await billOfMaterials()
  expect({ bomFormat, name: metadata.component.name }).toEqual({ bomFormat: 'CycloneDX', name: 'apar' })
  const names = components.map(({ name }) => name)
  expect(names).toEqual(expect.arrayContaining(['hono', 'zod', 'vega-lite', 'xgrammar', 'apache-tvm-ffi']))
  expect(names).not.toContain('vitest')
})

test('the workflow runs scripts that exist, with the permissions that they need', () => {
  const workflow = parse(read('.github/workflows/release.yml'))
  const { packages, github } = workflow.jobs
  const commands: string[] = packages.steps.flatMap(
    ({ run = '' }) => run.match(/[\w./-]+(\.mjs|\.ci\/run)/g) ?? [],
  )
  expect(commands).toEqual(expect.arrayContaining(['cli/release/publish.mjs']))
  expect(commands.filter((path) => !existsSync(join(packageRoot, path)))).toEqual([])
  expect(packages.permissions['id-token']).toBe('write')
  expect(github.needs).toBe('packages')
  // Only a tag publishes.
  const publishing = packages.steps.filter(({ run = '' }) => run.includes('--publish'))
  expect(publishing).toEqual([expect.objectContaining({ if: "github.event_name == 'push'" })])
})

test('one version for all packages', () => {
  const files = ['package.json', 'client/package.json', 'ai-sdk/package.json', 'package-lock.json']
  const manifests = files.map((path) => JSON.parse(read(path)))
  const versions = manifests.map(({ version, dependencies }) => dependencies?.['apar-client'] ?? version)
  expect(new Set([...versions, ...manifests.map(({ version }) => version)]).size).toBe(1)
})
