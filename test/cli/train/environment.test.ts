import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { trainingPython } from '../../../cli/train/environment/environment.ts'
import { makeEnvironment } from '../../../cli/train/environment/make-environment.ts'
import { inLines } from '../../../cli/train/environment/progress.ts'
import { type FakePython, GOOD_PACKAGES, writeFakePython } from './fake-python.ts'

let root: string
let cache: string
let base: string
let lines: string[]

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'apar-environment-'))
  cache = join(root, 'cache')
  base = join(root, 'python')
  lines = []
  vi.stubEnv('APAR_PYTHON', '')
})

afterEach(() => {
  vi.unstubAllEnvs()
  rmSync(root, { recursive: true })
})

const progress = inLines((line) => lines.push(line))

async function find(fake: FakePython = {}): Promise<string> {
  writeFakePython(base, fake)
  return await trainingPython({ base, cache, progress: inLines((line) => lines.push(line)) })
}

const calls = () => readFileSync(`${base}.calls`, 'utf8').split('\n')

describe("apar's environment", () => {
  test('is made once, with the packages of the lock file', async () => {
    const python = await find()
    expect(python).toMatch(/\/[0-9a-f]{12}-python3\.12-test-machine\/bin\/python$/)
    expect(existsSync(python)).toBe(true)
    expect(lines[0]).toMatch(/^making the Python environment for training in .* \(once\)$/)
    expect(lines.at(-1)).toMatch(/torch 2\.13\.0$/)
    expect(readdirSync(cache)).toHaveLength(1)
    expect(await find()).toBe(python)
    expect(calls().filter((call) => call === '-m venv')).toHaveLength(1)
  })

  test('is made by one of several that need it at the same time', async () => {
    const pip = "sleep 0.5; echo 'Collecting torch'"
    const [one, other] = await Promise.all([find({ pip }), find({ pip })])
    expect(one).toBe(other)
    expect(calls().filter((call) => call === '-m venv')).toHaveLength(1)
    expect(lines).toContainEqual(expect.stringMatching(/waiting for this process/))
  })

  test('is made anew when its Python has gone', async () => {
    const python = await find()
    rmSync(python)
    expect(await find()).toBe(python)
    expect(existsSync(python)).toBe(true)
  })

  test('is another one for another version of Python', async () => {
    expect(await find()).not.toBe(await find({ version: '3.13.0' }))
  })

  test('leaves nothing behind when it is interrupted', async () => {
    const started = join(root, 'started')
    const making = find({ pip: `touch '${started}'; exec sleep 60` })
    const ended = expect(making).rejects.toMatchObject({ code: 'cancelled' })
    while (!existsSync(started)) await sleep(20)
    process.emit('SIGINT')
    await ended
    expect(readdirSync(cache)).toEqual([])
  })

  test('tells of large downloads', async () => {
    const pip = `echo '  Downloading torch-2.13.0-cp312-none-any.whl (190.1 MB)'
      echo '  Downloading tqdm-4.70.1-py3-none-any.whl (0.1 MB)'`
    await find({ pip })
    expect(lines).toContainEqual('  Downloading torch-2.13.0 (190.1 MB)')
    expect(lines.join('\n')).not.toContain('tqdm')
  })

  test.each([
    [true, [], false],
    [false, [], false],
    [true, ['nvidia-cublas==13.0; platform_system == "Linux"'], false],
    [false, ['nvidia-cublas==13.0; platform_system == "Linux"'], true],
    [false, ['nvidia-cublas; extra == "all"'], false],
  ])(
    'with a GPU: %s, and torch requiring %j, warns of gigabytes: %s',
    async (hasGpu, torchRequires, warns) => {
      writeFakePython(base, { torchRequires })
      await makeEnvironment(join(cache, 'new'), { base, progress, hasGpu })
      const found = lines.filter((line) => line.includes('for GPUs (several GB)'))
      expect(found).toHaveLength(warns ? 1 : 0)
    },
  )
})

describe('what cannot make it', () => {
  test('a Python that is not there', async () => {
    const making = trainingPython({ base: join(root, 'none'), cache, progress })
    await expect(making).rejects.toMatchObject({
      code: 'python_missing',
      message: expect.stringMatching(/none: not found: install Python 3 .*, or set PYTHON to its path$/),
    })
  })

  test('an older Python', async () => {
    await expect(find({ version: '3.10.14' })).rejects.toMatchObject({
      code: 'python_missing',
      message: expect.stringMatching(/^training needs Python 3\.11 or newer, and .*python is 3\.10\.14/),
    })
  })

  test('a Python without venv, as on Debian', async () => {
    const venv = "echo 'The virtual environment was not created because ensurepip is not available.'; exit 1"
    await expect(find({ venv })).rejects.toMatchObject({
      code: 'python_missing',
      message: expect.stringMatching(
        /has no venv with pip: install them \(Debian: apt-get install python3-venv\)/,
      ),
    })
    expect(readdirSync(cache)).toEqual([])
  })

  test('pip without a network', async () => {
    const pip = `echo 'WARNING: Retrying' >&2
      echo 'ERROR: Could not find a version that satisfies the requirement torch==2.13.0' >&2
      echo 'ERROR: No matching distribution found for torch==2.13.0' >&2; exit 1`
    await expect(find({ pip })).rejects.toMatchObject({
      code: 'package_failed',
      message:
        'pip could not install the packages for training: Could not find a version that satisfies the requirement ' +
        'torch==2.13.0: check the network and the settings of pip',
    })
    expect(readdirSync(cache)).toEqual([])
  })
})

describe("the user's own Python", () => {
  test('is taken when it has the packages', async () => {
    writeFakePython(base, { packages: GOOD_PACKAGES })
    expect(await trainingPython({ python: base, cache, progress })).toBe(base)
    vi.stubEnv('APAR_PYTHON', base)
    expect(await trainingPython({ cache, progress })).toBe(base)
    expect(existsSync(cache)).toBe(false)
  })

  test('is refused with all that it lacks', async () => {
    writeFakePython(base, {
      packages: { ...GOOD_PACKAGES, torch: '2.5.1', peft: null, transformers: '6.0.0' },
    })
    await expect(trainingPython({ python: base, cache, progress })).rejects.toMatchObject({
      code: 'python_packages',
      message: expect.stringMatching(
        /torch 2\.5\.1 is not 2\.6 or newer; transformers 6\.0\.0 is not .* older than 6; peft is missing/,
      ),
    })
  })
})
