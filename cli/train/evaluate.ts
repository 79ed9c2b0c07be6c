import { existsSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { ADAPTER_CONFIG } from '../../gpu-node/checkpoint/adapter/adapter-config.ts'
import { MEDUSA_CONFIG } from '../../gpu-node/checkpoint/medusa/medusa-config.ts'
import { UserError } from '../explain.ts'
import { resolveOrPull } from '../models/pull.ts'
import { adapterOf } from '../models/served-name.ts'
import { trainingPython } from './environment/environment.ts'
import { showEnvironmentProgress } from './environment/progress.ts'
import { runTrainer } from './run-trainer.ts'
import { refuseOtherVocabulary } from './same-vocabulary.ts'
import { givenSettings, type SettingName, settingArguments } from './settings.ts'

export interface EvaluateFlags extends Readonly<Record<string, unknown>> {
  readonly data: string
  readonly model: string
  readonly adapter?: string
  readonly medusa?: string
  readonly markers?: boolean
  readonly split: string
  readonly examples?: number
  readonly out?: string
  readonly python?: string
  readonly debug?: true
}

export const EVALUATE_SETTINGS: readonly SettingName[] = [
  ...(['pack-tokens', 'context', 'device', 'dtype', 'attention', 'threads'] as const),
]

/** `apar train evaluate`: losses of a model on a build, or the accuracy of its Medusa heads, as JSON. */
export async function evaluate(flags: EvaluateFlags): Promise<void> {
  if (!existsSync(flags.data)) {
    throw new UserError('invalid_option', `--data: ${flags.data} does not exist: apar data build makes it`)
  }
  const { medusa } = flags
  if (medusa !== undefined && !existsSync(join(medusa, MEDUSA_CONFIG))) {
    throw new UserError('invalid_option', `--medusa: ${medusa} has no ${MEDUSA_CONFIG} of Medusa heads`)
  }
  if (medusa !== undefined && flags.markers === false) {
    throw new UserError('invalid_option', '--no-markers is for losses, not for heads: leave --medusa out')
  }
  const model = await resolveOrPull(flags.model)
  const { path } = model
  const adapter = adapterOf(model, flags)
  if (adapter !== undefined && !existsSync(join(adapter, ADAPTER_CONFIG))) {
    throw new UserError('invalid_option', `--adapter: ${adapter} has no ${ADAPTER_CONFIG} of an adapter`)
  }
  refuseOtherVocabulary(resolve(flags.data), { name: flags.model, path, adapter })
  const python = await trainingPython({ ...flags, progress: showEnvironmentProgress() })
  const optional = { medusa, adapter, examples: flags.examples, out: flags.out }
  const given = Object.entries(optional).flatMap(([name, value]) =>
    value === undefined ? [] : [`--${name}`, name === 'examples' ? String(value) : resolve(String(value))],
  )
  const name = medusa === undefined ? 'evaluate-loss' : 'evaluate-medusa'
  const command = [name, '--data', resolve(flags.data), '--model', path, '--split', flags.split]
  const args = [
    '-m',
    'apar_train',
    ...command,
    ...given,
    ...(flags.markers === false ? ['--without-markers'] : []),
    ...settingArguments(givenSettings(flags, EVALUATE_SETTINGS)),
  ]
  await runTrainer(python, args, { debug: flags.debug === true })
}
