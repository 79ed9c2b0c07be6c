import { execFileSync } from 'node:child_process'
import { Command } from 'commander'
import { describe, expect, test } from 'vitest'
import { TRAINER_FOLDER } from '../../../cli/train/environment/packages.ts'
import {
  COMMAND_SETTINGS,
  givenSettings,
  mergedSettings,
  SETTING_NAMES,
  settingArguments,
  settingOptions,
  TRAIN_COMMANDS,
} from '../../../cli/train/settings.ts'
import { requires } from '../../support/requires.ts'

function parse(...args: string[]) {
  const command = new Command().exitOverride().configureOutput({ writeErr: () => {} })
  for (const option of settingOptions(SETTING_NAMES)) command.addOption(option)
  return givenSettings(command.parse(args, { from: 'user' }).opts(), SETTING_NAMES)
}

test('settings go to the trainer as they were given', () => {
  const args = ['--steps', '20', '--lr', '1e-3', '--checkpoint-activations', '--dtype', 'float32']
  const settings = parse(...args, '--adam-betas', '0.9,0.98', '--tensorboard', '7')
  expect(settings).toEqual({
    ...{ steps: 20, lr: 0.001, 'checkpoint-activations': true, dtype: 'float32' },
    ...{ 'adam-betas': [0.9, 0.98], tensorboard: '7' },
  })
  expect(settingArguments(settings)).toEqual([
    ...['--steps', '20', '--lr', '0.001', '--adam-betas', '0.9', '0.98', '--dtype', 'float32'],
    ...['--checkpoint-activations', '--tensorboard', '7'],
  ])
})

test.each([
  ['--steps', '0'],
  ['--steps', '1.5'],
  ['--steps', ''],
  ['--lr', '-1'],
  ['--lr', 'NaN'],
  ['--structured-share', '1.1'],
  ['--adam-betas', '0.9'],
  ['--adam-betas', '0.9,x'],
  ['--dtype', 'int8'],
  ['--device', 'tpu'],
])('%s %j is refused', (option, value) => {
  expect(() => parse(option, value)).toThrow(`error: option '${option}`)
})

describe('settings of a recipe', () => {
  test('give way to those of the user', () => {
    expect(mergedSettings({ steps: 5, lr: 1 }, { lr: 2 })).toEqual({ steps: 5, lr: 2 })
  })

  test('that exclude those of the user are left out', () => {
    expect(() => mergedSettings({}, { steps: 5, epochs: 1 })).toThrow(
      '--steps and --epochs: give one of them',
    )
    expect(mergedSettings({ steps: 5, 'batch-examples': 8 }, { epochs: 1, 'batch-tokens': 9 })).toEqual({
      epochs: 1,
      'batch-tokens': 9,
    })
  })
})

const PYTHON = process.env.PYTHON || 'python3'
/** Needs no torch. */
const LIST = `import argparse, json
from apar_train import options
def names(add):
    parser = argparse.ArgumentParser()
    add(parser)
    return [option for action in parser._actions for option in action.option_strings]
print(json.dumps({"sft": names(options.add_sft), "medusa": names(options.add_medusa)}))`
const hasPython = () => execFileSync(PYTHON, ['--version']).length > 0

describe.skipIf(!requires(PYTHON, hasPython))('the trainer', () => {
  test.each(TRAIN_COMMANDS)('has these settings of %s, and no others', (command) => {
    const env = { ...process.env, PYTHONPATH: TRAINER_FOLDER }
    const found = JSON.parse(execFileSync(PYTHON, ['-c', LIST], { env, encoding: 'utf8' }))
    const options = found[command] as string[]
    const own = [
      ...(command === 'medusa' ? ['--adapter'] : []),
      '-h',
      '--help',
      '--data',
      '--model',
      '--base-name',
      '--out',
      '--run',
      '--resume',
    ]
    expect(options.filter((option) => !own.includes(option)).sort()).toEqual(
      COMMAND_SETTINGS[command].map((name) => `--${name}`).sort(),
    )
  })
})
