import Table from 'cli-table3'
import { UserError } from '../explain.ts'
import { PLAIN_TABLE, showTable } from '../models/show.ts'
import { lastAccuracies, TOP } from './head-metrics.ts'
import { adapterOfPlan, type ModelFiles, NO_MODEL, type Plan, planRun, trainerCommand } from './plan.ts'
import { checkHeadsFolder } from './run-folders.ts'
import { readRunLog } from './run-log.ts'
import { type RunFlags, runPlan, shown } from './run-plan.ts'
import type { Settings } from './settings.ts'

/** `apar train medusa`. @throws UserError `invalid_option` for a model from nothing, which has nothing to predict */
export async function medusa(flags: RunFlags): Promise<void> {
  const plan = planRun('medusa', flags)
  checkDraftVocab(plan.settings)
  if (plan.model === NO_MODEL) {
    throw new UserError('invalid_option', '--model none: Medusa heads are trained on a model that is there')
  }
  await runPlan(plan, flags, { ...{ command: trainerCommand, serveLine, summary }, check })
}

/** @throws UserError `invalid_option` where heads have matrices of their own, which are as large as the model's */
export function checkDraftVocab(settings: Settings): void {
  if (settings.kind === 'own' && settings['draft-vocab'] !== undefined)
    throw new UserError(
      'invalid_option',
      "--draft-vocab is for heads that share the model's matrix, not --kind own",
    )
}

function check(plan: Plan, model: ModelFiles): void {
  const { data, out, run } = plan
  checkHeadsFolder({ data, out, run, model: model.path, adapter: adapterOfPlan(plan, model) })
}

function serveLine({ model, adapter, out }: Plan): string {
  const tuned = adapter === undefined ? '' : ` --adapter ${shown(adapter)}`
  return `apar serve --model ${model}${tuned} --medusa ${shown(out)}`
}

/** The accuracy of each head. */
function summary({ run }: Plan): string {
  const heads = lastAccuracies(readRunLog(run))
  if (heads === undefined) return 'the accuracy of the heads was not measured on held-out data'
  const table = new Table({
    ...PLAIN_TABLE,
    head: ['accuracy, held out', ...TOP.map((k) => `top ${k}`)],
    colAligns: ['left', ...TOP.map(() => 'right' as const)],
  })
  heads.forEach((values, head) => {
    table.push([`head ${head}: ${head + 2} ahead`, ...values.map((value) => value.toFixed(3))])
  })
  return showTable(table)
}
