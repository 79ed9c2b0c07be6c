import { execFile } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { checkPackage, createPackageFromTarballData } from '@arethetypeswrong/core'
import { publint } from 'publint'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { packageRoot } from '../../gpu-node/package-root.ts'
import { installPacked, type Packed } from '../support/packed.ts'

const run = promisify(execFile)
const own = createRequire(import.meta.url)

type Manifest = Record<
  'dependencies' | 'devDependencies' | 'peerDependencies',
  Record<string, string> | undefined
>
const readJson = (path: string): Manifest & { version: string } => JSON.parse(readFileSync(path, 'utf8'))

let packed: Packed
beforeAll(async () => {
  packed = await installPacked()
})
afterAll(() => packed?.remove())

test('publint and "are the types wrong" find no fault', async () => {
  const pkgDir = join(packed.folder, 'node_modules/apar-ai-sdk')
  expect((await publint({ pkgDir, pack: false, strict: true })).messages).toEqual([])
  const checked = await checkPackage(
    createPackageFromTarballData(new Uint8Array(readFileSync(packed.tarball))),
  )
  if (!checked.types) throw new Error('it has no types')
  // An ES module, as the AI SDK's packages of version 7 are: only this, and only for CommonJS.
  expect(checked.problems).toEqual([
    expect.objectContaining({ kind: 'CJSResolvesToESM', resolutionKind: 'node16-cjs' }),
  ])
})

test('its packages are those with which it is tested', () => {
  const { dependencies, peerDependencies } = readJson(join(packageRoot, 'ai-sdk/package.json'))
  const { devDependencies, version } = readJson(join(packageRoot, 'package.json'))
  const { 'apar-client': client, ...others } = dependencies ?? {}
  expect(client).toBe(version)
  for (const [name, range] of Object.entries(others))
    expect([name, range]).toEqual([name, `^${devDependencies?.[name]}`])
  expect(peerDependencies).toEqual(
    readJson(join(packageRoot, 'node_modules/@ai-sdk/openai-compatible/package.json')).peerDependencies,
  )
})

test('its errors are those of the client', async () => {
  const program = `
    import { APICallError } from 'ai'
    import { aparErrorOf } from 'apar-ai-sdk'
    import { AparError } from 'apar-client'
    const data = { error: { code: 'overloaded', message: 'later' } }
    const error = new APICallError({ message: '', url: '', requestBodyValues: {}, data })
    console.log(aparErrorOf(error) instanceof AparError)`
  writeFileSync(join(packed.folder, 'program.mjs'), program)
  const { stdout } = await run(process.execPath, ['program.mjs'], { cwd: packed.folder })
  expect(stdout).toBe('true\n')
})

test.each(['nodenext', 'preserve'])('is typed under module %s', async (module) => {
  writeFileSync(join(packed.folder, 'program.mts'), TYPED)
  const tsc = own.resolve('typescript/package.json').replace('package.json', 'bin/tsc')
  const options = ['--noEmit', '--strict', '--exactOptionalPropertyTypes', '--skipLibCheck', '--types', '']
  const args = [
    tsc,
    'program.mts',
    ...options,
    '--target',
    'es2022',
    '--lib',
    'es2022,dom',
    '--module',
    module,
  ]
  const compiled = run(process.execPath, args, { cwd: packed.folder })
  const { stdout } = await compiled.catch((error: { stdout: string }) => error)
  expect(stdout).toBe('')
})

/** Each line with "@ts-expect-error" fails to compile if the types say too little. */
const TYPED = `
import { createUIMessageStream, streamText, type UIMessage } from 'ai'
import { type AparDataParts, type AparModelOptions, aparErrorOf, branchesOf, branchParts, createApar } from 'apar-ai-sdk'
const apar = createApar({ baseURL: 'http://edge/v1', apiKey: 'k' })
// @ts-expect-error: no such setting
createApar({ key: 'k' })
const options = { maxBranches: 4 } satisfies AparModelOptions
// @ts-expect-error: the type of an option
export const wrong = { maxBranches: '4' } satisfies AparModelOptions
type Message = UIMessage<unknown, AparDataParts>
export const stream = createUIMessageStream<Message>({
  execute({ writer }) {
    const result = streamText({ model: apar('demo'), prompt: 'hi', includeRawChunks: true, providerOptions: { apar: options } })
    writer.merge(branchParts(result.fullStream))
  },
})
export function texts(message: Message): string[] {
  for (const part of message.parts) if (part.type === 'data-branch') part.data.branch.toFixed()
  return branchesOf(message).map(({ text }) => text)
}
export const isLimit = (error: unknown) => aparErrorOf(error)?.code === 'rate_limit_exceeded'
// @ts-expect-error: not one of the codes
export const isNone = (error: unknown) => aparErrorOf(error)?.code === 'no_such_code'
`
