import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { writeCard } from '../../../cli/train/card/card.ts'
import { writeCurve } from '../../../cli/train/curve.ts'
import { type Invocation, recordInvocation } from '../../../cli/train/invocations.ts'
import { type PlanFlags, planRun, trainerCommand } from '../../../cli/train/plan.ts'

let root: string
let run: string
let invocation: Invocation

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'apar-card-'))
  run = join(root, 'forking-run')
  for (const folder of ['forking', 'data', 'data/model', 'base']) mkdirSync(join(root, folder))
  invocation = {
    command: 'sft',
    ...{
      data: join(root, 'data'),
      model: 'owner/base',
      modelPath: join(root, 'base'),
      out: join(root, 'forking'),
    },
    ...{ recipe: 'mine', processes: 2, settings: { steps: 20, lora: 4, 'adam-betas': [0.9, 0.98] } },
    ...{ line: 'python -m apar_train sft', started: '2026-11-28T00:00:00.000Z', seconds: 90, end: 'stopped' },
    versions: { python: '3.12.1', torch: '2.13.0' },
    hardware: { cpu: 'a | CPU', cores: 2, memory: 16e9, gpus: [] },
  }
  recordInvocation(run, invocation)(invocation.seconds, invocation.end)
  recordInvocation(run, { ...invocation, line: 'python -m apar_train sft --resume' })(60, 'done')
  const log = [
    { step: 0, event: 'begun', parameters: 134_515_008, trained: 4_885_632, examples: 100, rate: 0.001 },
    { step: 10, loss: 2.5, structured_loss: 2.4, tokens: 40_000, seconds: 60 },
    { step: 10, held_out_structured_loss: 2.6 },
    { step: 10, event: 'resumed', parameters: 134_515_008, trained: 4_885_632, examples: 100 },
    { step: 20, loss: 1.5, structured_loss: 1.4, tokens: 80_000, seconds: 120 },
    { step: 20, held_out_structured_loss: 1.75 },
  ]
  const lines = log.map((line) => JSON.stringify(line)).join('\n')
  writeFileSync(join(run, 'log.jsonl'), `${lines}\n{"step": 21, "lo`)
  const report = {
    ...{
      profile: { name: 'default', lists: true },
      context: 1024,
      inputs: [{ name: '/x/chats.jsonl', bytes: 9 }],
    },
    ...{ conversations: 2000, structured: { list: 1234 }, unstructured: 700, leftOut: 66, branches: 5000 },
    heldOut: { all: 240, structured: 150 },
  }
  writeFileSync(join(root, 'data/report.json'), JSON.stringify(report))
})

afterEach(() => rmSync(root, { recursive: true }))

const card = () => readFileSync(join(root, 'forking/README.md'), 'utf8')

describe('the model card of a run', () => {
  test('has what the run was made of, and its losses', () => {
    writeFileSync(join(root, 'base/README.md'), '---\nlicense: apache-2.0\ntags: [x]\n---\n# Base\n')
    expect(writeCard(run)).toBe(join(root, 'forking/README.md'))
    const [, front] = /^---\n([\s\S]*?)\n---\n/.exec(card()) ?? []
    expect(front?.split('\n')).toEqual([
      'license: apache-2.0',
      'base_model: owner/base',
      'base_model_relation: adapter',
      'library_name: peft',
      'pipeline_tag: text-generation',
      'tags: [apar, parallel-decoding, lora, sft]',
    ])
    expect(card()).toContain('# forking\n')
    expect(card()).toContain('owner/base (135 M parameters), of which 4.9 M were trained (LoRA of rank 4)')
    expect(card()).toContain('apar serve --model owner/base --adapter forking')
    expect(card()).toContain('| sources | chats.jsonl |')
    expect(card()).toContain('| structured: list | 1,234 |')
    expect(card()).toContain('| held out | 240, 150 of them structured |')
    expect(card()).toContain('| recipe | mine |')
    expect(card()).toContain('| adam-betas | 0.9,0.98 |')
    expect(card()).toContain('| steps done | 20 |')
    expect(card()).toContain('| tokens | 80.0 K |')
    expect(card()).toContain('| time | 3 min |')
    expect(card()).toContain('| machine | a \\| CPU, 2 cores, 16.0 GB memory |')
    expect(card()).toContain('| versions | python 3.12.1, torch 2.13.0 |')
    expect(card()).toContain('| held out, answers with branches | 2.6000 | 1.7500 |')
    expect(card()).toContain(
      '# 2026-11-28T00:00:00.000Z, stopped, recipe mine\n' +
        'apar train sft --data data --model owner/base --out forking --nproc 2 --steps 20 --lora 4 --adam-betas 0.9,0.98\n',
    )
    expect(card()).not.toContain(root)
  })

  test('is written again, but not over one that was written by hand', () => {
    writeCard(run)
    writeCard(run, { license: 'mit' })
    expect(card()).toContain('license: mit\n')
    writeFileSync(join(root, 'forking/README.md'), '# By hand\n')
    expect(() => writeCard(run)).toThrow(/README\.md was written by hand/)
    expect(card()).toBe('# By hand\n')
  })

  test('says that nothing is known of a licence', () => {
    writeCard(run)
    expect(card()).not.toMatch(/^license:/m)
    expect(card()).toContain('The licence is that of the base model and of the data.')
  })

  test('needs a run', () => {
    expect(() => writeCard(join(root, 'data'))).toThrow(/data is no --run of apar train sft or medusa/)
  })
})

describe('the loss curve', () => {
  test('is drawn as SVG and as PNG', async () => {
    const [svg, png] = [join(root, 'loss.svg'), join(root, 'loss.png')]
    await writeCurve([run], svg)
    await writeCurve([run, run], png)
    expect(readFileSync(svg, 'utf8')).toMatch(/^<svg[\s\S]*held out: with branches[\s\S]*<\/svg>\s*$/)
    expect(readFileSync(png).subarray(1, 4).toString()).toBe('PNG')
  })

  test('needs a known ending, and a run', async () => {
    await expect(writeCurve([run], join(root, 'loss.pdf'))).rejects.toMatchObject({ code: 'invalid_option' })
    await expect(writeCurve([root], join(root, 'loss.svg'))).rejects.toMatchObject({ code: 'invalid_option' })
    expect(existsSync(join(root, 'loss.svg'))).toBe(false)
  })
})

describe('a run', () => {
  const data = () => join(root, 'data')
  const out = () => join(root, 'forking')

  test('is put together of the recipe and what is given', () => {
    const plan = planRun('sft', { data: data(), out: out(), recipe: 'vicuna-7b-v1.3', steps: 5, nproc: 8 })
    expect(plan).toMatchObject({ model: 'lmsys/vicuna-7b-v1.3', run, recipe: 'vicuna-7b-v1.3', processes: 8 })
    expect(plan.settings).toMatchObject({ steps: 5, 'batch-examples': 128 })
    const command = trainerCommand({ ...plan, settings: { steps: 5 } }, { path: '/models/vicuna' })
    expect(command.join(' ')).toBe(
      `sft --data ${data()} --model /models/vicuna --base-name lmsys/vicuna-7b-v1.3 --out ${out()} --run ${run} --steps 5`,
    )
  })

  test('that goes on has the settings that it began with', () => {
    expect(planRun('sft', { out: out(), resume: true })).toMatchObject({
      ...{ data: data(), model: 'owner/base', recipe: 'mine', processes: 2, resume: true },
      settings: { steps: 20, lora: 4 },
    })
    expect(planRun('sft', { run, resume: true, 'stop-step': 4, stopStep: 4 }).settings).toMatchObject({
      ...{ steps: 20, 'stop-step': 4 },
    })
  })

  test('takes the model that its data were built for', () => {
    writeFileSync(
      join(root, 'data/model/base.json'),
      JSON.stringify({ path: '/models/x.gguf', format: 'gguf' }),
    )
    expect(planRun('sft', { data: data(), out: out() }).model).toBe('/models/x.gguf')
  })

  test('needs data, a model and a place for its model', () => {
    const missing = (flags: PlanFlags) => {
      try {
        planRun('sft', flags)
      } catch (error) {
        return (error as Error).message
      }
      return 'nothing'
    }
    expect(missing({})).toMatch(/^--data is needed/)
    expect(missing({ data: data() })).toMatch(/^--out is needed/)
    expect(missing({ data: data(), out: join(root, 'new') })).toMatch(/^--model is needed/)
  })
})
