import { spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { engineLogits } from '../../bench/engine/logits.ts'
import { readCheckpoint } from '../../gpu-node/checkpoint/checkpoint.ts'
import { hasTrainingPython, TRAINING_PYTHON } from '../support/training-python.ts'

const cwd = join(import.meta.dirname, '../../training/torch')
const MINUTES = 60_000

function python(args: string[]) {
  const env = { ...process.env, OMP_NUM_THREADS: '1' }
  return spawnSync(TRAINING_PYTHON, args, { cwd, env, encoding: 'utf8' })
}

describe.skipIf(!hasTrainingPython)('training/torch', () => {
  const modules = readdirSync(join(cwd, 'tests')).filter((file) => /^test_.*\.py$/.test(file))
  for (const file of modules) {
    it(`passes ${file}`, { timeout: 15 * MINUTES }, () => {
      const run = python(['-W', 'ignore', '-m', 'unittest', `tests.${file.slice(0, -3)}`])
      expect(run.status, run.stderr).toBe(0)
    })
  }
})

const Logits = z.object({ ids: z.array(z.int()), model: z.array(z.number()), adapter: z.array(z.number()) })

describe.skipIf(!hasTrainingPython)('what the trainer writes', () => {
  const root = mkdtempSync(join(tmpdir(), 'apar-trained-'))
  afterAll(() => rmSync(root, { recursive: true }))
  beforeAll(() => {
    const run = python(['-W', 'ignore', '-m', 'tests.export', root])
    expect(run.status, run.stderr).toBe(0)
  }, 15 * MINUTES)

  it('a model is served with the logits that transformers computes', () => {
    const { shape, weights, tokens, joints, text } = readCheckpoint(join(root, 'model'))
    expect(joints).toBe('kept')
    expect(tokens).toMatchObject({ fork: 257, child: 258 })
    expect(text.tokenizer.added_tokens.map(({ content }) => content)).toContain('[Fork]')
    const { ids, model } = Logits.parse(JSON.parse(readFileSync(join(root, 'logits.json'), 'utf8')))
    const logits = engineLogits({ shape, weights, dtype: 'f32', path: ids }).slice(-model.length)
    const worst = Math.max(...model.map((value, id) => Math.abs(value - (logits[id] ?? Number.NaN))))
    expect(worst).toBeLessThan(1e-3)
  })

  it('an adapter is merged into its base, with its own way to fork', () => {
    const { tokens, joints, weights, warnings } = readCheckpoint(join(root, 'base'), {
      adapter: join(root, 'adapter'),
    })
    expect(tokens).toMatchObject({ fork: 257, child: 258 })
    expect({ joints, warnings }).toEqual({ joints: 'kept', warnings: [] })
    const changed = weights.tensors.filter(({ lora, replacedRows }) => lora ?? replacedRows)
    // Seven linear layers in each of two layers, and two rows of the table, which is the head too.
    expect(changed).toHaveLength(2 * 7 + 1)
  })

  it('Medusa heads of each kind are those that the engine takes', () => {
    const own = readCheckpoint(join(root, 'model'), { medusa: join(root, 'own') })
    expect(own.medusa?.shape).toEqual({
      ...{
        numHeads: 2,
        numLayers: 2,
        sharesLmHead: false,
        readsNextToken: false,
        vocabSize: own.shape.vocabSize,
      },
    })
    const ofAdapter = (heads: string) =>
      readCheckpoint(join(root, 'base'), {
        ...{ adapter: join(root, 'adapter'), medusa: join(root, heads) },
      })
    const shared = ofAdapter('shared')
    expect(shared.medusa?.shape).toMatchObject({ numHeads: 3, sharesLmHead: true, readsNextToken: false })
    const conditioned = ofAdapter('conditioned')
    expect(conditioned.medusa?.shape).toMatchObject({ numHeads: 2, sharesLmHead: true, readsNextToken: true })
    for (const { medusa, warnings } of [own, shared, conditioned]) {
      expect(medusa?.baseModel).toMatch(/model$|base$/)
      expect(medusa?.weights.tensors.every(({ dtype }) => dtype === 'BF16')).toBe(true)
      expect(warnings).toEqual([])
    }
  })
})
