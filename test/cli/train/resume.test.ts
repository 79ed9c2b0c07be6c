import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { readInvocations, recordInvocation } from '../../../cli/train/invocations.ts'
import type { RunFlags } from '../../../cli/train/run-plan.ts'
import { sft } from '../../../cli/train/sft.ts'
import { GOOD_PACKAGES, writeFakePython } from './fake-python.ts'

let root: string
let python: string

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'apar-resume-'))
  python = join(root, 'python')
  for (const folder of ['data', 'other-data', 'base', 'other-base']) mkdirSync(join(root, folder))
  vi.spyOn(console, 'log').mockImplementation(() => {})
  vi.spyOn(console, 'error').mockImplementation(() => {})
})

afterEach(() => {
  vi.restoreAllMocks()
  rmSync(root, { recursive: true })
})

const out = () => join(root, 'forking')
const run = () => `${out()}-run`
const args = () => readFileSync(join(root, 'args'), 'utf8').trim()

async function train(flags: Partial<RunFlags>, trainer = ''): Promise<void> {
  const keeps = `echo "$*" > '${root}/args'; mkdir -p '${run()}/state-00000002'; ${trainer}`
  writeFakePython(python, { packages: GOOD_PACKAGES, trainer: keeps })
  await sft({ python, out: out(), ...flags })
}

const BEGUN = { steps: 10, lr: 0.001, lora: 8, stopStep: 2 }
const begin = (trainer = '', flags: Partial<RunFlags> = {}) =>
  train({ data: join(root, 'data'), model: join(root, 'base'), ...BEGUN, ...flags }, trainer)

describe('apar train sft --resume --out DIR', () => {
  test('goes on with all that the run was begun with, but for where it stopped', async () => {
    await begin()
    await train({ resume: true })
    expect(args()).toMatch(
      new RegExp(`--data ${root}/data --model ${root}/base .*--resume --steps 10 --lora 8 --lr 0.001$`),
    )
  })

  test('goes on with a run that was killed', async () => {
    await begin()
    const [begun] = readInvocations(run())
    if (!begun) throw new Error('nothing was noted')
    // As the file is while a run goes on.
    recordInvocation(run(), begun)
    await train({ resume: true })
    expect(args()).toContain('--lr 0.001')
    expect(readInvocations(run()).map(({ end }) => end)).toEqual(['done', 'cut', 'done'])
  })

  test('is noted before the trainer does anything', async () => {
    const noted = `cp '${run()}/invocations.jsonl' '${root}/noted'`
    await begin(noted)
    expect(JSON.parse(readFileSync(join(root, 'noted'), 'utf8'))).toMatchObject({
      ...{ end: 'running', data: join(root, 'data'), settings: { steps: 10, lr: 0.001 } },
    })
  })

  test('takes a longer run, and other notes', async () => {
    await begin()
    await train({ resume: true, steps: 20, logSteps: 1, saveSteps: 5, lr: 0.001 })
    expect(args()).toMatch(/--steps 20 .*--save-steps 5 --log-steps 1$/)
    await train({ resume: true })
    expect(args()).toContain('--steps 20')
  })

  test.each([
    ['another rate', { lr: 0.002 }, '--lr: the run was begun with 0.001, not with 0.002'],
    [
      'a setting it did not have',
      { batchTokens: 9 },
      '--batch-tokens: the run was begun without it, not with 9',
    ],
    ['fewer steps', { steps: 5 }, '--steps: the run was begun with 10, not with 5, and may only grow'],
    ['another kind of length', { epochs: 5 }, '--steps: the run was begun with 10, not without it'],
    ['other data', { data: 'other-data' }, 'other-data'],
    ['another model', { model: 'other-base' }, 'other-base'],
    ['a recipe with other settings', { recipe: 'smollm2-135m-instruct' }, 'the run was begun with'],
  ])('refuses %s with both values', async (_, flags: Partial<RunFlags>, message) => {
    await begin()
    rmSync(join(root, 'args'))
    const paths = Object.fromEntries(
      Object.entries(flags).map(([name, value]) => [
        name,
        /^other-/.test(String(value)) ? join(root, String(value)) : value,
      ]),
    )
    await expect(train({ resume: true, ...paths })).rejects.toMatchObject({
      code: 'invalid_option',
      message: expect.stringContaining(message),
    })
    expect(existsSync(join(root, 'args'))).toBe(false)
  })

  test('says that there is no run', async () => {
    await expect(train({ resume: true })).rejects.toThrow('no run was begun in')
  })
})

describe('a run', () => {
  test('is not begun over another one', async () => {
    await begin()
    await expect(begin()).rejects.toThrow('a run was begun here: --resume, or another --run')
    expect(readInvocations(run())).toHaveLength(1)
  })

  test('is of one process at a time', async () => {
    const first = begin(`touch '${root}/started'; while [ ! -e '${root}/go' ]; do sleep 0.05; done`)
    while (!existsSync(join(root, 'started'))) await sleep(20)
    // The process itself and its trainer, which may outlive it.
    expect(readdirSync(run()).filter((name) => name.endsWith('.lock'))).toHaveLength(2)
    await expect(train({ resume: true })).rejects.toMatchObject({
      code: 'run_in_use',
      message: expect.stringMatching(/forking-run is in use by (this )?process/),
    })
    // Another run with the same model folder.
    await expect(begin('', { run: join(root, 'other-run') })).rejects.toMatchObject({
      code: 'out_in_use',
      message: expect.stringMatching(/forking is in use by (this )?process/),
    })
    expect(readdirSync(join(root, 'other-run'))).toEqual([])
    mkdirSync(join(root, 'go'))
    await first
    expect(readdirSync(run()).filter((name) => name.endsWith('.lock'))).toEqual([])
  })
})
