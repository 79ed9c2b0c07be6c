import { resolve } from 'node:path'
import { UserError } from '../explain.ts'
import type { Invocation } from './invocations.ts'
import { SETTING_NAMES, type SettingName, type Settings } from './settings.ts'

/** What changes nothing that is learned in a step. */
const MAY_DIFFER: ReadonlySet<SettingName> = new Set<SettingName>([
  ...(['device', 'attention', 'parallel', 'threads', 'checkpoint-activations'] as const),
  ...(['save-minutes', 'save-steps', 'log-steps', 'eval-steps', 'eval-examples'] as const),
  ...(['adapter-dtype', 'tensorboard', 'stop-step', 'minutes'] as const),
])
/** A run may become longer; it goes on along the schedule of the new length. */
const MAY_GROW: ReadonlySet<SettingName> = new Set<SettingName>(['steps', 'epochs'])

interface RunParts extends Pick<Invocation, 'command' | 'data' | 'out' | 'model'> {
  readonly adapter?: string | undefined
  readonly settings: Settings | Invocation['settings']
}

/** The settings that a resumed run has unless others are given: those of before, but for where it was to stop. */
export function resumedSettings({ settings }: Pick<Invocation, 'settings'>): Settings {
  const { 'stop-step': _stopped, ...others } = settings
  return others as Settings
}

/**
 * A resumed run with other settings would be neither the one that was begun nor another.
 * @throws UserError `invalid_option` with both values
 */
export function refuseOtherRun(plan: RunParts, before: RunParts & Pick<Invocation, 'modelPath'>): void {
  for (const name of ['command', 'data', 'out', 'adapter'] as const) {
    if (plan[name] !== before[name]) throw differs(name, before[name], plan[name])
  }
  if (plan.model !== before.model && resolve(plan.model) !== before.modelPath)
    throw differs('model', before.model, plan.model)
  for (const name of SETTING_NAMES) {
    const [then, now] = [before.settings[name], plan.settings[name]]
    if (MAY_DIFFER.has(name) || JSON.stringify(then) === JSON.stringify(now)) continue
    if (!MAY_GROW.has(name)) throw differs(name, then, now)
    if (then !== undefined && !(Number(now) > Number(then)))
      throw differs(name, then, now, ', and may only grow')
  }
}

function differs(name: string, then: unknown, now: unknown, more = ''): UserError {
  const option = name === 'command' ? 'apar train' : `--${name}`
  const show = (value: unknown) => (value === undefined ? 'without it' : `with ${value}`)
  const reason = `${option}: the run was begun ${show(then)}, not ${show(now)}${more}`
  const advice = name === 'command' ? '' : 'leave it out, or '
  return new UserError('invalid_option', `${reason}: ${advice}begin another run with --run`)
}
