import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { parseHubName } from '../../../cli/models/hub/hub-name.ts'
import { knownModels } from '../../../cli/models/known.ts'
import { readRecipe, recipeNames } from '../../../cli/train/recipe.ts'
import type { TrainCommand } from '../../../cli/train/settings.ts'

const root = mkdtempSync(join(tmpdir(), 'apar-recipes-'))
afterAll(() => rmSync(root, { recursive: true }))

test('there are recipes', () => {
  expect(recipeNames()).toEqual(
    expect.arrayContaining([
      ...['demo', 'llama-3.1-8b-instruct', 'qwen3-4b', 'smollm2-135m-instruct'],
      ...['vicuna-13b-v1.3', 'vicuna-7b-v1.3', 'vicuna-7b-v1.3-medusa', 'smollm2-135m-instruct-medusa'],
    ]),
  )
})

test.each(recipeNames())('%s is valid, and its model has a name that apar knows', (name) => {
  const { model, settings } = readRecipe(name)
  expect(model === 'none' || knownModels().has(model) || parseHubName(model) !== undefined).toBe(true)
  expect(settings.steps ?? settings.epochs ?? settings.minutes).toBeDefined()
})

test.each(['vicuna-7b-v1.3', 'vicuna-13b-v1.3'])("%s has the paper's settings", (name) => {
  const { settings, data } = readRecipe(name)
  expect(settings).toMatchObject({
    ...{ steps: 2000, 'batch-examples': 128, context: 2048, lr: 2e-5, 'weight-decay': 0 },
    ...{ 'structured-share': 0.5, dtype: 'bfloat16', parallel: 'fsdp' },
  })
  expect(Number(settings.steps) * Number(settings['batch-examples'])).toBe(256_000)
  expect(Number(settings['warmup-steps']) / Number(settings.steps)).toBe(0.03)
  expect(data).toContain('vicuna_v1.1')
})

test('a recipe of heads has the rate and warm-up of the paper, and is for its own command only', () => {
  const { settings, command } = readRecipe('vicuna-7b-v1.3-medusa', 'medusa')
  expect({ ...settings, command }).toMatchObject({ command: 'medusa', heads: 2, kind: 'own', lr: 0.001 })
  expect(Number(settings['warmup-steps']) / Number(settings.steps)).toBe(0.1)
  expect(readRecipe('smollm2-135m-instruct-medusa', 'medusa').settings.kind).toBe('conditioned')
  const refused = (name: string, command: TrainCommand) => expect(() => readRecipe(name, command))
  refused('vicuna-7b-v1.3-medusa', 'sft').toThrow(/vicuna-7b-v1\.3-medusa\.json is for apar train medusa$/)
  refused('qwen3-4b', 'medusa').toThrow(/qwen3-4b\.json is for apar train sft$/)
})

describe('a file of the user', () => {
  const good = { about: '', source: '', model: 'none', data: '', gpus: 0, settings: { steps: 5 } }

  test('is read by its path', () => {
    const file = join(root, 'mine.json')
    writeFileSync(file, JSON.stringify(good))
    expect(readRecipe(file)).toMatchObject({ name: 'mine', settings: { steps: 5 } })
  })

  test.each([
    ['{', /mine\.json: is not valid JSON$/],
    [JSON.stringify({ ...good, more: 1 }), /mine\.json: more: /],
    [JSON.stringify({ ...good, settings: { lr: '1' } }), /settings\.lr: /],
    [JSON.stringify({ ...good, settings: { rate: 1 } }), /settings\.rate: /],
    [JSON.stringify({ ...good, settings: { heads: 3 } }), /apar train sft has no setting heads$/],
    [
      JSON.stringify({ ...good, command: 'medusa', settings: { lora: 3 } }),
      /apar train medusa has no setting lora$/,
    ],
    [JSON.stringify({ ...good, command: 'medusa', settings: { heads: 9 } }), /settings\.heads: /],
    [JSON.stringify({ ...good, command: 'other' }), /command: /],
    [
      JSON.stringify({ ...good, settings: { steps: 1, epochs: 1 } }),
      /settings: takes steps or epochs, not both$/,
    ],
  ])('%s is refused with its field', (text, message) => {
    const file = join(root, 'mine.json')
    writeFileSync(file, text)
    expect(() => readRecipe(file)).toThrow(
      expect.objectContaining({ code: 'invalid_option', message: expect.stringMatching(message) }),
    )
  })

  test('that is not there is refused with the names of recipes', () => {
    expect(() => readRecipe('vicuna')).toThrow(/vicuna does not exist, and the recipes are demo, /)
  })
})
