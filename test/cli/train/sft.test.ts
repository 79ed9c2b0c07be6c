import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { evaluate } from '../../../cli/train/evaluate.ts'
import { readInvocations } from '../../../cli/train/invocations.ts'
import type { RunFlags } from '../../../cli/train/run-plan.ts'
import { sft } from '../../../cli/train/sft.ts'
import { GOOD_PACKAGES, writeFakePython } from './fake-python.ts'

const LOG = '{"step": 0, "event": "begun", "parameters": 10, "trained": 5, "examples": 3}'

let root: string
let python: string
let printed: string[]

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'apar-sft-'))
  python = join(root, 'python')
  for (const folder of ['data', 'base']) mkdirSync(join(root, folder))
  printed = []
  vi.spyOn(console, 'log').mockImplementation((line: string) => void printed.push(line))
  vi.spyOn(console, 'error').mockImplementation((line: string) => void printed.push(line))
})

afterEach(() => {
  vi.restoreAllMocks()
  rmSync(root, { recursive: true })
})

const out = () => join(root, 'forking')
const run = () => `${out()}-run`

async function train(trainer: string, flags: Partial<RunFlags> = {}): Promise<void> {
  writeFakePython(python, { packages: GOOD_PACKAGES, trainer })
  const files = { data: join(root, 'data'), model: join(root, 'base'), out: out() }
  await sft({ python, ...files, steps: 4, lora: 2, ...flags })
}

const begins = () => `mkdir -p '${run()}'; echo '${LOG}' > '${run()}/log.jsonl'`

describe('apar train sft', () => {
  test('trains, notes how, and writes the model card', async () => {
    const args = join(root, 'args')
    await train(`echo "$*" > ${args}; ${begins()}; mkdir '${out()}'`)
    const line = `-m apar_train sft --data ${root}/data --model ${root}/base --base-name ${root}/base --out ${out()} --run ${run()} --steps 4 --lora 2`
    expect(readFileSync(args, 'utf8').trim()).toBe(line)
    expect(printed[0]).toMatch(
      new RegExp(`^(LD_PRELOAD=\\S+ )?PYTHONPATH=\\S+/training/torch ${python} ${line}$`),
    )
    expect(printed.at(-1)).toMatch(
      /forking is trained; serve it with: apar serve --model .*base --adapter .*forking$/,
    )
    expect(readInvocations(run())).toMatchObject([
      { end: 'done', settings: { steps: 4, lora: 2 }, processes: 1, versions: { torch: '2.13.0+cu130' } },
    ])
    expect(readFileSync(join(out(), 'README.md'), 'utf8')).toContain('| steps | 4 |')
  })

  test('says what was saved when it is stopped, and goes on as it began', async () => {
    const started = join(root, 'started')
    const waits = `touch '${started}'; while true; do sleep 0.05; done`
    const running = train(`${begins()}; trap 'mkdir ${run()}/state-00000002; exit 0' INT; ${waits}`)
    const stopped = expect(running).rejects.toMatchObject({
      code: 'cancelled',
      message: expect.stringMatching(
        /^stopped, and the state is saved; go on with: apar train sft --resume --out /,
      ),
    })
    while (!existsSync(started)) await sleep(20)
    process.emit('SIGINT')
    await stopped
    const args = join(root, 'args')
    writeFakePython(python, { packages: GOOD_PACKAGES, trainer: `echo "$*" > ${args}; mkdir '${out()}'` })
    await sft({ python, out: out(), resume: true })
    expect(readFileSync(args, 'utf8')).toMatch(/--data \S+ .* --resume --steps 4 --lora 2\n$/)
    expect(readInvocations(run()).map(({ end }) => end)).toEqual(['stopped', 'done'])
  })

  test('that fails has one sentence, and is noted', async () => {
    const failing = train(`echo 'invalid_request: --lora: too large' >&2; exit 2`)
    await expect(failing).rejects.toMatchObject({ code: 'invalid_request', message: '--lora: too large' })
    expect(readInvocations(run())).toMatchObject([{ end: 'failed' }])
  })

  test('with --dry-run only prints the line, under torchrun for several processes', async () => {
    await train('exit 9', { dryRun: true, nproc: 4 })
    expect(printed).toEqual([
      expect.stringMatching(
        /-m torch\.distributed\.run --standalone --nproc-per-node 4 -m -- apar_train sft /,
      ),
    ])
    expect(existsSync(run())).toBe(false)
  })

  test('needs its data', async () => {
    await expect(train('', { data: join(root, 'none') })).rejects.toMatchObject({
      code: 'invalid_option',
      message: expect.stringMatching(/none does not exist: apar data build makes it$/),
    })
  })
})

test('apar train evaluate hands on its options', async () => {
  const args = join(root, 'args')
  writeFakePython(python, { packages: GOOD_PACKAGES, trainer: `echo "$*" > ${args}` })
  const files = { data: join(root, 'data'), model: join(root, 'base'), adapter: out() }
  mkdirSync(out())
  writeFileSync(join(out(), 'adapter_config.json'), '{}')
  await evaluate({ python, ...files, split: 'test', examples: 3, packTokens: 512, markers: false })
  expect(readFileSync(args, 'utf8').trim()).toBe(
    `-m apar_train evaluate-loss --data ${root}/data --model ${root}/base --split test --adapter ${out()} --examples 3 --without-markers --pack-tokens 512`,
  )
})
