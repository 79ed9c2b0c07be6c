import { UserError } from '../explain.ts'
import { NO_MODEL, type Plan, planRun, trainerCommand } from './plan.ts'
import { type RunFlags, runPlan, shown } from './run-plan.ts'

/** `apar train medusa`. @throws UserError `invalid_option` for a model from nothing, which has nothing to predict */
export async function medusa(flags: RunFlags): Promise<void> {
  const plan = planRun('medusa', flags)
  if (plan.model === NO_MODEL) {
    throw new UserError('invalid_option', '--model none: Medusa heads are trained on a model that is there')
  }
  await runPlan(plan, flags, { command: trainerCommand, serveLine })
}

function serveLine({ model, adapter, out }: Plan): string {
  const tuned = adapter === undefined ? '' : ` --adapter ${shown(adapter)}`
  return `apar serve --model ${model}${tuned} --medusa ${shown(out)}`
}
