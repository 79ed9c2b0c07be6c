import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { writeCurve } from '../../../cli/train/curve.ts'
import { showMedusaEstimate } from '../../../cli/train/estimate/command.ts'
import { countHeads, estimateMedusa, medusaReport } from '../../../cli/train/estimate/medusa.ts'
import { shapeOf } from '../../../cli/train/estimate/parameters.ts'
import { evaluate } from '../../../cli/train/evaluate.ts'
import { readInvocations } from '../../../cli/train/invocations.ts'
import { medusa } from '../../../cli/train/medusa.ts'
import { adapterOfPlan, planRun } from '../../../cli/train/plan.ts'
import type { RunFlags } from '../../../cli/train/run-plan.ts'
import { settingOptions } from '../../../cli/train/settings.ts'
import { sft } from '../../../cli/train/sft.ts'
import { MAX_MEDUSA_LAYERS } from '../../../gpu-node/engine/engine-config.ts'
import { GOOD_PACKAGES, writeFakePython } from './fake-python.ts'

const TOP = [1, 2, 3, 5, 7, 10]

let root: string
let python: string
let printed: string[]

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'apar-medusa-'))
  python = join(root, 'python')
  for (const folder of ['data', 'data/train', 'base', 'adapter']) mkdirSync(join(root, folder))
  printed = []
  vi.spyOn(console, 'log').mockImplementation((line: string) => void printed.push(line))
  vi.spyOn(console, 'error').mockImplementation((line: string) => void printed.push(line))
})

afterEach(() => {
  vi.restoreAllMocks()
  rmSync(root, { recursive: true })
})

const out = () => join(root, 'heads')
const run = () => `${out()}-run`

/** The log of a run of two heads, as the trainer writes it. */
function logLines(): string {
  const metrics = (prefix: string, by: number) =>
    Object.fromEntries(
      [0, 1].flatMap((head) => [
        [`${prefix}head_${head}_loss`, 4 - by + head],
        ...(prefix === ''
          ? []
          : TOP.map((k) => [`${prefix}head_${head}_top_${k}`, (k / 20) * by - head / 100])),
      ]),
    )
  const lines = [
    { step: 0, event: 'begun', parameters: 134_515_008, trained: 664_704, examples: 3 },
    { step: 10, loss: 7, tokens: 4000, seconds: 9, ...metrics('', 1) },
    { step: 10, held_out_loss: 7, ...metrics('held_out_', 1) },
    { step: 20, loss: 5, tokens: 8000, seconds: 18, ...metrics('', 2) },
    { step: 20, held_out_loss: 5, ...metrics('held_out_', 1.5) },
  ]
  return `${lines.map((line) => JSON.stringify(line)).join('\n')}\n`
}

async function train(trainer: string, flags: Partial<RunFlags> = {}): Promise<void> {
  writeFakePython(python, { packages: GOOD_PACKAGES, trainer })
  const files = { data: join(root, 'data'), model: join(root, 'base'), out: out() }
  await medusa({ python, ...files, adapter: join(root, 'adapter'), steps: 20, heads: 2, ...flags })
}

function logged(): string {
  const log = join(root, 'log')
  writeFileSync(log, logLines())
  const config = `printf '{"medusa_num_heads": 2}' > '${out()}/config.json'`
  return `mkdir -p '${run()}' '${out()}'; cp '${log}' '${run()}/log.jsonl'; ${config}`
}

describe('apar train medusa', () => {
  test('trains on the adapted model, notes how, and writes a card with the accuracies', async () => {
    const args = join(root, 'args')
    await train(`echo "$*" > ${args}; ${logged()}`)
    expect(readFileSync(args, 'utf8').trim()).toBe(
      `-m apar_train medusa --data ${root}/data --model ${root}/base --adapter ${root}/adapter --base-name ${root}/base --out ${out()} --run ${run()} --steps 20 --heads 2`,
    )
    expect(printed.at(-1)).toMatch(
      /heads is trained; serve it with: apar serve --model .*base --adapter .*adapter --medusa .*heads$/,
    )
    expect(printed.at(-1)).toMatch(/head 0: 2 ahead +0\.075 +0\.150 .*\n.*head 1: 3 ahead +0\.065 /)
    expect(readInvocations(run())).toMatchObject([
      { command: 'medusa', end: 'done', adapter: join(root, 'adapter'), settings: { steps: 20, heads: 2 } },
    ])
    const card = readFileSync(join(out(), 'README.md'), 'utf8')
    expect(card).toContain(
      '2 Medusa heads of 665 K parameters in all for base (135 M parameters), tuned by adapter;',
    )
    expect(card).toContain('apar serve --model base --adapter adapter --medusa heads')
    expect(card).toContain('| held out, head 1 | 4.0000 | 3.5000 |')
    expect(card).toContain('|  | top 1 | top 2 | top 3 | top 5 | top 7 | top 10 |')
    expect(card).toContain('| head 0 | 0.075 | 0.150 | 0.225 | 0.375 | 0.525 | 0.750 |')
    expect(card).toContain(
      'apar train medusa --data data --model base --adapter adapter --out heads --steps 20 --heads 2\n',
    )
    expect(card).toContain('tags: [apar, medusa, speculative-decoding]')
    expect(card).not.toContain(root)
  })

  test('goes on as it began', async () => {
    await train(logged())
    const args = join(root, 'args')
    writeFakePython(python, { packages: GOOD_PACKAGES, trainer: `echo "$*" > ${args}` })
    await medusa({ python, out: out(), resume: true })
    expect(readFileSync(args, 'utf8')).toMatch(/--adapter \S+\/adapter .* --resume --steps 20 --heads 2\n$/)
  })

  test('is not gone on with by sft', async () => {
    await train(logged())
    await expect(sft({ python, out: out(), resume: true })).rejects.toMatchObject({
      code: 'invalid_option',
      message: 'apar train: the run was begun with medusa, not with sft: begin another run with --run',
    })
  })

  test('needs a model, and data', async () => {
    await expect(train('', { model: 'none' })).rejects.toMatchObject({ code: 'invalid_option' })
    await expect(train('', { data: join(root, 'none') })).rejects.toMatchObject({ code: 'invalid_option' })
    expect(existsSync(run())).toBe(false)
    const missing = medusa({ python, data: join(root, 'data'), model: join(root, 'base') })
    await expect(missing).rejects.toMatchObject({
      code: 'missing_option',
      message: '--out is needed: the folder of the heads to write',
    })
  })

  test('never replaces its model, or a folder of something else', async () => {
    for (const folder of ['base', 'adapter']) {
      const refused = train('exit 9', { out: join(root, folder), run: run() })
      await expect(refused).rejects.toMatchObject({ code: 'foreign_folder' })
    }
    mkdirSync(out())
    writeFileSync(join(out(), 'notes.txt'), '')
    await expect(train('exit 9')).rejects.toMatchObject({ code: 'foreign_folder' })
    expect(existsSync(run())).toBe(false)
  })

  test('trains as many layers as the engine takes', async () => {
    const [layers] = settingOptions(['layers'])
    expect(layers?.parseArg?.(String(MAX_MEDUSA_LAYERS), undefined)).toBe(MAX_MEDUSA_LAYERS)
    expect(() => layers?.parseArg?.(String(MAX_MEDUSA_LAYERS + 1), undefined)).toThrow(/8/)
  })

  test('takes one adapter, also of a model that has one by its name', () => {
    const plan = planRun('medusa', { data: root, model: 'tuned', out: out(), adapter: join(root, 'adapter') })
    expect(() => adapterOfPlan(plan, { adapter: '/elsewhere' })).toThrow(
      expect.objectContaining({
        code: 'invalid_option',
        message: expect.stringContaining('tuned has an adapter'),
      }),
    )
    expect(adapterOfPlan({ ...plan, adapter: undefined }, { adapter: '/elsewhere' })).toBe('/elsewhere')
  })

  test('takes no recipe of another command', async () => {
    await expect(train('', { recipe: 'demo' })).rejects.toMatchObject({ code: 'invalid_option' })
  })
})

test('the curve of heads has a panel of accuracies', async () => {
  await train(logged())
  const [svg, png] = [join(root, 'heads.svg'), join(root, 'heads.png')]
  await writeCurve([run()], svg)
  await writeCurve([run(), run()], png)
  const text = readFileSync(svg, 'utf8')
  for (const label of ['held out: head 1', 'training: head 0', 'accuracy, held out', 'top 10', 'head 1']) {
    expect(text).toContain(label)
  }
  expect(readFileSync(png).subarray(1, 4).toString()).toBe('PNG')
})

test('apar train evaluate --medusa asks for the accuracy of heads', async () => {
  const args = join(root, 'args')
  writeFakePython(python, { packages: GOOD_PACKAGES, trainer: `echo "$*" > ${args}` })
  const files = { data: join(root, 'data'), model: join(root, 'base'), medusa: out() }
  const without = evaluate({ python, ...files, split: 'test' })
  await expect(without).rejects.toMatchObject({ code: 'invalid_option' })
  mkdirSync(out())
  writeFileSync(join(out(), 'config.json'), '{}')
  const withoutMarkers = evaluate({ python, ...files, split: 'test', markers: false })
  await expect(withoutMarkers).rejects.toMatchObject({ message: expect.stringMatching(/^--no-markers/) })
  expect(existsSync(args)).toBe(false)
  await evaluate({ python, ...files, split: 'test', examples: 3 })
  expect(readFileSync(args, 'utf8').trim()).toBe(
    `-m apar_train evaluate-medusa --data ${root}/data --model ${root}/base --split test --medusa ${out()} --examples 3`,
  )
})

describe('the estimate of heads', () => {
  const config = {
    ...{ architectures: ['LlamaForCausalLM'], max_position_embeddings: 2048, vocab_size: 49152 },
    ...{ hidden_size: 576, intermediate_size: 1536, num_hidden_layers: 30, num_attention_heads: 9 },
    ...{ num_key_value_heads: 3, tie_word_embeddings: true },
  }
  const shape = () => {
    writeFileSync(join(root, 'base/config.json'), JSON.stringify(config))
    return shapeOf(join(root, 'base'))
  }
  const heads = { heads: 2, layers: 1, kind: 'shared' } as const
  const options = () => ({
    ...{ shape: shape(), packTokens: { cpu: 1024, cuda: 16384 }, contextTokens: 1024, runTokens: 1e6 },
    ...{ gpus: 8, gpuMemory: 80e9, gpuRate: 400e12, cpu: undefined, cpuMemory: 16e9 },
    valueBytes: { cpu: 2, cuda: 2 } as const,
  })

  test('counts the weights of each kind, and a shared head takes less than 1 MB of bf16', () => {
    expect(countHeads(shape(), heads)).toBe(2 * (576 * 576 + 576))
    expect(2 * countHeads(shape(), { ...heads, heads: 1 })).toBeLessThan(1e6)
    expect(countHeads(shape(), { ...heads, layers: 2, kind: 'own' })).toBe(2 * (2 * 332_352 + 49152 * 576))
    expect(countHeads(shape(), { ...heads, kind: 'conditioned' })).toBe(3 * 576 * 576 + 2 * 576)
  })

  test('has the frozen model in bf16, and gradients of the heads alone', () => {
    const found = estimateMedusa({ ...options(), heads })
    const { trained, rows } = found
    expect(rows.map(({ device, layout }) => [device, layout])).toEqual([
      ['cpu', 'one'],
      ['cuda', 'one'],
      ['cuda', 'ddp'],
    ])
    expect(rows[1]?.memory).toMatchObject({
      ...{ weights: 2 * 134_515_008 + 4 * trained, gradients: 4 * trained, optimizer: 8 * trained },
    })
    expect(rows.every(({ fits }) => fits)).toBe(true)
    expect(rows[0]).toMatchObject({ tokensPerSecond: undefined, hours: undefined })
    expect(medusaReport(found)).toMatch(
      /^135 M parameters, frozen; heads of 665 K; 1\.0\d* M tokens in the run\n/,
    )
    const own = estimateMedusa({ ...options(), heads: { ...heads, kind: 'own' } })
    expect(own.rows[1]?.memory.total).toBeGreaterThan((rows[1]?.memory.total ?? 0) + 16 * 2 * 49152 * 576)
    expect(own.rows[1]?.hours).toBeGreaterThan(rows[1]?.hours ?? 0)
  })

  test('is printed for a recipe, with the speed of this machine', async () => {
    shape()
    writeFakePython(python, { packages: GOOD_PACKAGES })
    const flags = { model: join(root, 'base'), recipe: 'smollm2-135m-instruct-medusa', python }
    await showMedusaEstimate({ ...flags, json: true })
    expect(JSON.parse(printed.at(-1) ?? '')).toMatchObject({
      trained: 996_480,
      rows: [{ device: 'cpu', tokensPerSecond: expect.any(Number) }, { device: 'cuda' }, { layout: 'ddp' }],
    })
    const own = { model: flags.model, python, heads: 4, kind: 'own' }
    await showMedusaEstimate(own)
    expect(printed.at(-1)).toMatch(/^135 M parameters, frozen; heads of 115 M\n/)
    await expect(showMedusaEstimate({ ...own, draftVocab: 100 })).rejects.toMatchObject({
      ...{ code: 'invalid_option', message: expect.stringMatching(/^--draft-vocab /) },
    })
    await expect(showMedusaEstimate({ ...flags, recipe: 'demo' })).rejects.toMatchObject({
      code: 'invalid_option',
    })
  })
})
