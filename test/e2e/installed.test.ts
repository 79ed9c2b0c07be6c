import { execFile } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { bytesBelow, type InstalledPackage, installPackage } from '../../bench/footprint/installed-package.ts'
import { withServe } from '../../bench/load/serve-first-token.ts'
import { packageRoot } from '../../gpu-node/package-root.ts'
import { requires } from '../support/requires.ts'

const run = promisify(execFile)
const BUILT = ['dist/apar.js', 'dist/edge/worker.js', 'native/build/release/apar.node']
const isBuilt = requires('a build (npm run setup)', () =>
  BUILT.every((file) => existsSync(join(packageRoot, file))),
)

describe.skipIf(!isBuilt)('apar, packed and installed in an empty folder', () => {
  let installed: InstalledPackage
  beforeAll(async () => {
    installed = await installPackage()
  })
  afterAll(() => installed?.remove())

  const modules = (path = '') => join(installed.folder, 'node_modules', path)
  const engine = () => modules(`apar-engine-${process.platform}-${process.arch}`)

  /** `npx apar ...`. @returns its status, and what it printed. */
  async function apar(args: readonly string[], env: Record<string, string> = {}) {
    const options = { cwd: installed.folder, env: { ...process.env, ...env } }
    const ended = run('npx', ['--offline', 'apar', ...args], options)
    return await ended.then(
      ({ stdout }) => ({ code: 0, stdout, stderr: '' }),
      (error: { code: number; stdout: string; stderr: string }) => error,
    )
  }

  test('takes less than 150 MiB, with all that it needs', () => {
    // The goal is 150 MiB. What would take much more than now is left out, or said in the changelog.
    const own = process.platform === 'linux'
    expect(bytesBelow(modules())).toBeLessThan((own ? 120 : 150) * 2 ** 20)
    const vendors = readdirSync(modules()).filter((name) => !name.startsWith('.'))
    const platform = `${process.platform}-${process.arch}`
    expect(vendors.sort()).toEqual(
      own
        ? ['apar', `apar-engine-${platform}`, `apar-workerd-${platform}`]
        : ['@cloudflare', 'apar', `apar-engine-${platform}`],
    )
  })

  test('has each file that the sources read from the folder of the package', () => {
    const read = ['cli', 'gpu-node', 'training', 'shared'].flatMap((folder) =>
      readdirSync(join(packageRoot, folder), { recursive: true, encoding: 'utf8' })
        .filter((file) => file.endsWith('.ts'))
        .flatMap((file) => {
          const text = readFileSync(join(packageRoot, folder, file), 'utf8')
          return [...text.matchAll(/packageRoot, '([^']+)'/g)].map(([, path = '']) => path)
        }),
    )
    expect(read.length).toBeGreaterThan(8)
    // The first is where `apar engine build` builds, the second tells a clone.
    const clone = ['native/build', 'cli/main.ts']
    const missing = read.filter((path) => !clone.includes(path) && !existsSync(join(modules('apar'), path)))
    expect(missing).toEqual([])
    const files = readdirSync(modules('apar'), { recursive: true, encoding: 'utf8' })
    expect(files.filter((file) => /\.(ts|map)$|(^|\/)tests?\/|\/data\/.*\.zst$/.test(file))).toEqual([])
  })

  test.skipIf(process.platform !== 'linux')(
    "says whose program its edge's runtime is, and its version",
    () => {
      const folder = modules(`apar-workerd-${process.platform}-${process.arch}`)
      const readme = readFileSync(join(folder, 'README.md'), 'utf8')
      const { version } = JSON.parse(
        readFileSync(join(packageRoot, 'node_modules/workerd/package.json'), 'utf8'),
      )
      expect(readme).toContain(`workerd ${version} by Cloudflare`)
      expect(readFileSync(join(folder, 'LICENSE'), 'utf8')).toContain('Apache License')
    },
  )

  test('names the licences of what is bundled', () => {
    const text = readFileSync(join(modules('apar'), 'THIRD-PARTY-LICENCES.txt'), 'utf8')
    for (const name of ['hono', 'zod', 'preact', 'vega-lite', '@opentelemetry/api', '@huggingface/hub'])
      expect(text).toMatch(new RegExp(`^${name} \\d`, 'm'))
  })

  test.skipIf(process.platform !== 'linux')('its engine needs no newer C library than workerd does', () => {
    for (const file of ['apar.node', 'apar_compile_grammar']) {
      const symbols = readFileSync(join(engine(), file), 'latin1').matchAll(/GLIBC_2\.(\d+)/g)
      const minors = [...symbols].map(([, minor]) => Number(minor))
      expect(minors.length).toBeGreaterThan(3)
      expect(Math.max(...minors)).toBeLessThanOrEqual(35)
    }
  })

  test('helps, and says what the machine can do', async () => {
    const help = await apar(['--help'])
    expect(help).toMatchObject({ code: 0, stdout: expect.stringMatching(/^Usage: apar /) })
    const { stdout } = await apar(['doctor', '--json'])
    const findings: { check: string; state: string }[] = JSON.parse(stdout)
    for (const check of ['engine', 'edge runtime'])
      expect(findings).toContainEqual(expect.objectContaining({ check, state: 'ok' }))
  })

  test('answers a chat request with the prebuilt engine, and sends its trace to a collector', async () => {
    const traced: string[] = []
    const collector = createServer((request, response) => {
      traced.push(request.url ?? '')
      response.end('{}')
    })
    await new Promise<void>((resolve) => collector.listen(0, '127.0.0.1', resolve))
    const { port } = collector.address() as AddressInfo
    vi.stubEnv('OTEL_EXPORTER_OTLP_ENDPOINT', `http://127.0.0.1:${port}`)
    await withServe(
      ['--model', 'demo'],
      async ({ url, key }) => {
        expect(await (await fetch(url)).text()).toContain('<script')
        const messages = [{ role: 'user', content: 'How do I use tar?' }]
        const response = await fetch(`${url}/v1/chat/completions`, {
          method: 'POST',
          headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
          body: JSON.stringify({ model: 'demo', messages, temperature: 0, max_tokens: 120 }),
        })
        expect(await response.json()).toMatchObject({
          choices: [{ message: { content: expect.stringContaining('1. ') } }],
        })
      },
      installed.script,
    )
    vi.unstubAllEnvs()
    collector.close()
    // Loaded when it is needed, as few parts are: a package that is bundled wrongly has no exports then.
    expect(traced).toEqual(['/v1/traces'])
  })

  test('without an engine it says how to compile one, and what that needs', async () => {
    renameSync(engine(), `${engine()}-away`)
    try {
      const found = await apar(['model', 'inspect', 'demo'])
      expect(found).toMatchObject({ code: 1, stderr: expect.stringContaining('apar engine build builds it') })
      const built = await apar(['engine', 'build'], { CXX: join(installed.folder, 'no-compiler') })
      expect(built).toMatchObject({
        code: 1,
        stderr: expect.stringMatching(/no C\+\+20 compiler found: install g\+\+/),
      })
    } finally {
      renameSync(`${engine()}-away`, engine())
    }
  })

  test('plots as SVG; PNG needs two packages, which it names', async () => {
    const folder = join(installed.folder, 'run')
    mkdirSync(folder)
    const begun = { event: 'begun', step: 0, parameters: 1, trained: 1, examples: 1 }
    const steps = [1, 2].map((step) => ({ step, loss: 3 - step }))
    writeFileSync(
      join(folder, 'log.jsonl'),
      [begun, ...steps].map((line) => `${JSON.stringify(line)}\n`).join(''),
    )
    expect(await apar(['train', 'curve', 'run', '--out', 'loss.svg'])).toMatchObject({ code: 0 })
    expect(readFileSync(join(installed.folder, 'loss.svg'), 'utf8')).toMatch(/^<svg/)
    expect(await apar(['train', 'curve', 'run', '--out', 'loss.png'])).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('npm install @resvg/resvg-js @expo-google-fonts/lato'),
    })
  })
})
