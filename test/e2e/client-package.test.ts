import { execFile } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { gzipSync } from 'node:zlib'
import { checkPackage, createPackageFromTarballData } from '@arethetypeswrong/core'
import { Miniflare } from 'miniflare'
import { publint } from 'publint'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { packageRoot } from '../../gpu-node/package-root.ts'
import { type Stack, startStack } from './stack.ts'

const run = promisify(execFile)
const own = createRequire(import.meta.url)
const npm = process.platform === 'win32' ? 'npm.cmd' : 'npm'

/** A folder in which nothing but the packed client is installed, and a served demo model. */
let folder: string
let tarball: string
let stack: Stack

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'apar-client-'))
  await run(npm, ['pack', '--pack-destination', folder], { cwd: join(packageRoot, 'client') })
  tarball = join(folder, readdirSync(folder).find((name) => name.endsWith('.tgz')) ?? '')
  writeFileSync(join(folder, 'package.json'), '{"private": true}')
  await run(npm, ['install', '--offline', '--no-audit', '--no-fund', tarball], { cwd: folder })
  stack = await startStack()
})
afterAll(async () => {
  await stack?.close()
  rmSync(folder, { recursive: true, force: true })
})

const installed = () => join(folder, 'node_modules/apar-client')
const manifest = () => JSON.parse(readFileSync(join(installed(), 'package.json'), 'utf8'))

/** Writes a file into the folder and runs it with Node. @returns what it printed, as JSON. */
async function runProgram(name: string, text: string): Promise<unknown> {
  writeFileSync(join(folder, name), text)
  const env = { ...process.env, APAR_URL: stack.url, APAR_API_KEY: stack.key, WS: own.resolve('ws') }
  return JSON.parse((await run(process.execPath, [name], { cwd: folder, env })).stdout)
}

const USE = `
  const request = { model: 'demo', messages: [{ role: 'user', content: 'How do I use tar?' }], temperature: 0, max_tokens: 120 }
  const stream = openStream({ baseUrl, apiKey, request, WebSocket })
  const branches = []
  let ordered = ''
  const reading = (async () => { for await (const text of stream.texts()) ordered += text })()
  for await (const event of stream) if (event.type === 'fork') branches.push(event.branch)
  await reading
  const result = { models: await listModels(baseUrl, apiKey), branches: branches.length, same: ordered === await stream.text(), text: ordered }
`
const SETTINGS = 'const { APAR_URL: baseUrl, APAR_API_KEY: apiKey, WS } = process.env'
const forkedAnswer = {
  models: ['demo'],
  branches: expect.toSatisfy((count) => count > 1),
  same: true,
  text: expect.stringContaining('1. '),
}

describe('apar-client, packed and installed in an empty folder', () => {
  test('is small, and brings nothing with it', () => {
    expect(readdirSync(join(folder, 'node_modules')).filter((name) => !name.startsWith('.'))).toEqual([
      'apar-client',
    ])
    expect(manifest().dependencies).toBeUndefined()
    expect(manifest().version).toBe(JSON.parse(readFileSync(`${packageRoot}/package.json`, 'utf8')).version)
    for (const file of ['dist/index.js', 'dist/index.cjs'])
      expect(gzipSync(readFileSync(join(installed(), file))).length).toBeLessThan(20_000)
    expect(readdirSync(installed()).sort()).toEqual(['LICENSE', 'README.md', 'dist', 'package.json'])
  })

  test('publint and "are the types wrong" find no fault', async () => {
    expect((await publint({ pkgDir: installed(), pack: false, strict: true })).messages).toEqual([])
    const checked = await checkPackage(createPackageFromTarballData(new Uint8Array(readFileSync(tarball))))
    expect(checked).toMatchObject({ problems: [], types: { kind: 'included' } })
  })

  test('streams a forking answer from ES modules, leaves, resumes, aborts and shares a socket', async () => {
    symlinkSync(join(packageRoot, 'node_modules/ws'), join(folder, 'node_modules/ws'))
    const program = readFileSync(join(packageRoot, 'test/clients/runtime.mjs'), 'utf8')
    expect(await runProgram('runtime.mjs', program)).toEqual({
      ...forkedAnswer,
      ...{ aborted: 'abort', refused: 'invalid_api_key' },
    })
  })

  test('streams it from CommonJS', async () => {
    const imports = `const { listModels, openStream } = require('apar-client')\n${SETTINGS}\nconst { WebSocket } = require(WS)`
    const program = `${imports}\nvoid (async () => {${USE}\nconsole.log(JSON.stringify(result)) })()`
    expect(await runProgram('program.cjs', program)).toEqual(forkedAnswer)
  })

  test('streams it from a Worker, whose runtime has the WebSocket', async () => {
    const worker = `
      import { listModels, openStream } from './index.js'
      export default { async fetch(_, { baseUrl, apiKey }) { ${USE} return Response.json(result) } }`
    const contents = readFileSync(join(installed(), 'dist/index.js'), 'utf8')
    const miniflare = new Miniflare({
      modules: [
        { type: 'ESModule', path: '/worker.js', contents: worker },
        { type: 'ESModule', path: '/index.js', contents },
      ],
      modulesRoot: '/',
      compatibilityDate: '2026-04-26',
      bindings: { baseUrl: stack.url, apiKey: stack.key },
    })
    try {
      const response = await miniflare.dispatchFetch('http://worker/')
      expect(await response.json()).toEqual(forkedAnswer)
    } finally {
      await miniflare.dispose()
    }
  })

  test.each([
    { module: 'nodenext', file: 'program.mts' },
    { module: 'nodenext', file: 'program.cts' },
    { module: 'preserve', file: 'program.ts' },
  ])('is typed under module $module, in $file', async ({ module, file }) => {
    writeFileSync(join(folder, file), TYPED)
    const options = [
      '--noEmit',
      '--strict',
      '--exactOptionalPropertyTypes',
      '--target',
      'es2022',
      '--types',
      '',
    ]
    const args = [own.resolve('typescript/package.json').replace('package.json', 'bin/tsc'), file]
    const compiled = run(process.execPath, [...args, ...options, '--module', module, '--lib', 'es2022,dom'], {
      cwd: folder,
    })
    const { stdout } = await compiled.catch((error: { stdout: string }) => error)
    expect(stdout).toBe('')
  })
})

/** Each line with "@ts-expect-error" fails to compile if the types say too little. */
const TYPED = `
import { AparError, openConnection, openStream, resumeStream } from 'apar-client'
import type { BranchStream, ErrorCode, GenerateRequest, StreamEvent } from 'apar-client'
const request: GenerateRequest = { model: 'demo', messages: [{ role: 'user', content: 'hi' }], branching: { max_branches: 4 } }
// @ts-expect-error: the type of a field
export const wrong: GenerateRequest = { model: 'demo', messages: [], seed: '1' }
// @ts-expect-error: no such field
export const more: GenerateRequest = { model: 'demo', messages: [], functions: [] }
export async function read(stream: BranchStream = openStream({ baseUrl: 'http://edge', apiKey: 'k', request })) {
  try {
    for await (const event of stream) {
      if (event.type === 'fork') {
        const places: [number, number, number] = [event.branch, event.parent, event.at]
        // @ts-expect-error: a fork has no text
        places.push(event.text)
      }
      if (event.type === 'done') event.usage.total_tokens.toFixed()
    }
    for await (const text of stream.branchText(1)) text.trim()
  } catch (error) {
    if (error instanceof AparError) {
      const code: ErrorCode = error.code
      // @ts-expect-error: not one of the codes
      if (code === 'no_such_code') return
    }
  }
  const events: StreamEvent[] = []
  resumeStream({ baseUrl: 'http://edge', apiKey: 'k', position: { stream: stream.id ?? '', after: stream.lastSeq, events } })
  openConnection({ baseUrl: 'http://edge', apiKey: 'k' }).stream(request).cancelBranch(1)
}
`
