import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { evaluate } from '../../../cli/train/evaluate.ts'
import { GOOD_PACKAGES, writeFakePython } from './fake-python.ts'

const { resolveOrPull } = vi.hoisted(() => ({ resolveOrPull: vi.fn() }))
vi.mock('../../../cli/models/pull.ts', () => ({ resolveOrPull }))

let root: string

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'apar-evaluate-'))
  for (const folder of ['data', 'base', 'adapter']) mkdirSync(join(root, folder))
  writeFileSync(join(root, 'adapter/adapter_config.json'), '{}')
  resolveOrPull.mockResolvedValue({
    path: join(root, 'base'),
    adapter: join(root, 'adapter'),
    name: 'forking',
  })
  const trainer = `echo "$*" > '${root}/args'`
  writeFakePython(join(root, 'python'), { packages: GOOD_PACKAGES, trainer })
})

afterEach(() => rmSync(root, { recursive: true }))

const options = () => ({
  data: join(root, 'data'),
  model: 'forking',
  split: 'test',
  python: join(root, 'python'),
})

test('a known model that is an adapter is evaluated with its base', async () => {
  await evaluate(options())
  expect(readFileSync(join(root, 'args'), 'utf8')).toContain(
    `--model ${root}/base --split test --adapter ${root}/adapter`,
  )
})

test('needs its data', async () => {
  const missing = evaluate({ ...options(), data: join(root, 'none') })
  await expect(missing).rejects.toThrow(/none does not exist: apar data build makes it/)
})

test('a folder without an adapter is refused before Python is started', async () => {
  resolveOrPull.mockResolvedValue({ path: join(root, 'base') })
  const none = evaluate({ ...options(), adapter: join(root, 'base') })
  await expect(none).rejects.toMatchObject({
    code: 'invalid_option',
    message: expect.stringMatching(/^--adapter: .*base has no adapter_config\.json/),
  })
  expect(existsSync(join(root, 'args'))).toBe(false)
})

test('one adapter at a time', async () => {
  const two = evaluate({ ...options(), adapter: join(root, 'base') })
  await expect(two).rejects.toMatchObject({ code: 'invalid_option' })
})
