import { basename } from 'node:path'
import { UserError } from '../explain.ts'
import { type ModelFiles, NO_MODEL, type Plan, planRun, trainerCommand } from './plan.ts'
import { checkModelFolder } from './run-folders.ts'
import { type RunFlags, runPlan, shown } from './run-plan.ts'

/** `apar train sft`. */
export async function sft(flags: RunFlags): Promise<void> {
  await runPlan(planRun('sft', flags), flags, { ...{ command: trainerCommand, serveLine }, check })
}

function check(plan: Plan, { path, adapter }: ModelFiles): void {
  if (adapter !== undefined) {
    const advice = `tune its base, which is ${basename(path)}, by its own name (apar model list)`
    throw new UserError('invalid_option', `--model: ${plan.model} is an adapter: ${advice}`)
  }
  const { data, out, run } = plan
  checkModelFolder({ data, out, run, model: plan.model === NO_MODEL ? undefined : path })
}

function serveLine({ model, out, settings }: Plan): string {
  return settings.lora === undefined
    ? `apar serve --model ${shown(out)}`
    : `apar serve --model ${model} --adapter ${shown(out)}`
}
