import { execFileSync, spawn } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { writePackages } from '../../cli/setup/write-packages.mjs'
import { packageRoot } from '../../gpu-node/package-root.ts'
import { requires } from '../support/requires.ts'

const BUILT = ['dist/apar.js', 'dist/edge/worker.js', 'native/build/release/apar.node']
const isBuilt = requires('a build (npm run setup)', () =>
  BUILT.every((file) => existsSync(join(packageRoot, file))),
)
const lines = readFileSync(join(packageRoot, 'deploy/Dockerfile'), 'utf8').replaceAll('\\\n', ' ').split('\n')

/** The instructions of a stage, after those of the stage that it begins with. */
function stage(name: string): string[] {
  const from = lines.findIndex((line) => line.startsWith('FROM ') && line.endsWith(` AS ${name}`))
  const next = lines.findIndex((line, index) => index > from && line.startsWith('FROM '))
  const [, base = ''] = (lines[from] ?? '').split(' ')
  return [
    ...(/^[a-z-]+$/.test(base) ? stage(base) : []),
    ...lines.slice(from + 1, next === -1 ? undefined : next),
  ]
}

/** Without a daemon: the same files at the same places below a folder, and the entry point as it is started there. */
describe.skipIf(!isBuilt)('an image of the Dockerfile', () => {
  let folder: string
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'apar-image-'))
    const build = join(folder, 'build')
    writePackages(join(build, 'dist/packages'))
    symlinkSync(join(packageRoot, 'node_modules'), join(build, 'node_modules'))
    const collect = stage('build').find((line) => line.startsWith('RUN ') && line.includes('/packages'))
    const script = (collect ?? '').replace('RUN ', '').replaceAll(' /packages', ` ${folder}/packages`)
    execFileSync('sh', ['-ec', script], { cwd: build })
  })
  afterAll(() => rmSync(folder, { recursive: true, force: true }))

  /** Starts a stage's entry point, on any port. @returns what it prints until `wanted` comes. */
  async function start(name: string, args: string[], wanted: string): Promise<string> {
    const workdir = join(folder, name)
    mkdirSync(workdir)
    for (const line of stage(name)) {
      const [, from = '', to = ''] = /^COPY --from=build (\S+) (\S+)$/.exec(line) ?? []
      if (from !== '') cpSync(`${folder}${from}`, join(workdir, to), { recursive: true })
    }
    const entry = stage(name).find((line) => line.startsWith('ENTRYPOINT ')) ?? ''
    const [program = '', ...own]: string[] = JSON.parse(entry.replace('ENTRYPOINT ', ''))
    const state = own.map((arg) => (arg === '/state' ? join(folder, 'state') : arg))
    const child = spawn(program, [...state, '--host', '127.0.0.1', '--port', '0', ...args], {
      cwd: workdir,
      env: { ...process.env, NODE_SECRET: 'secret', APAR_ADMIN_KEY: 'admin' },
    })
    let output = ''
    await new Promise<void>((resolve) => {
      for (const from of [child.stdout, child.stderr])
        from.on('data', (chunk: Buffer) => {
          output += chunk.toString()
          if (output.includes(wanted)) resolve()
        })
      child.once('exit', () => resolve())
    })
    const exited = new Promise((resolve) => child.once('exit', (code) => resolve(code)))
    child.kill('SIGTERM')
    expect(await exited, output).toBe(0)
    return output
  }

  test('has what an edge needs', async () => {
    expect(await start('edge', [], 'listens at')).toContain('the edge listens at http://127.0.0.1:')
  })

  test('has what a gpu node needs', async () => {
    const output = await start('gpu-node', ['--model', 'models/demo', '--threads', '1'], '"listening"')
    expect(output).toContain('"model":"demo"')
  })
})
