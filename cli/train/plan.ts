import { existsSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { z } from 'zod'
import { parseJson } from '../../shared/parse.ts'
import { UserError } from '../explain.ts'
import type { ResolvedModel } from '../models/resolve.ts'
import { adapterOf } from '../models/served-name.ts'
import { lastInvocation } from './invocations.ts'
import { readRecipe } from './recipe.ts'
import { refuseOtherRun, resumedSettings } from './resumed.ts'
import {
  COMMAND_SETTINGS,
  givenSettings,
  mergedSettings,
  type Settings,
  settingArguments,
  type TrainCommand,
} from './settings.ts'

/** In place of a model: it is trained from nothing. */
export const NO_MODEL = 'none'

/** What the user has said of a run. */
export interface PlanFlags extends Readonly<Record<string, unknown>> {
  readonly data?: string
  readonly model?: string
  /** Of `medusa`. */
  readonly adapter?: string
  readonly out?: string
  readonly run?: string
  readonly recipe?: string
  readonly nproc?: number
  readonly resume?: true
}

/** A run, whole. Paths are absolute. */
export interface Plan {
  readonly command: TrainCommand
  readonly data: string
  /** As the user names it, or `none`. */
  readonly model: string
  /** Which is merged into the model before it is frozen. */
  readonly adapter: string | undefined
  readonly out: string
  readonly run: string
  readonly recipe: string | undefined
  readonly processes: number
  readonly resume: boolean
  readonly settings: Settings
}

const WRITES: Readonly<Record<TrainCommand, string>> = {
  sft: 'the model or adapter folder to write',
  medusa: 'the folder of the heads to write',
}

/** Of a model that has been found. */
export type ModelFiles = Pick<ResolvedModel, 'path' | 'adapter'>

/**
 * Puts a run together: what is given comes first, then, with `--resume`, what the run was begun with, then the recipe;
 * the model is at last the one that the data were built for.
 * @throws UserError `missing_option`, `invalid_option`
 */
export function planRun(command: TrainCommand, flags: PlanFlags): Plan {
  const given = flags.run ?? (flags.out === undefined ? undefined : `${flags.out}-run`)
  const before = flags.resume && given !== undefined ? lastInvocation(resolve(given)) : undefined
  if (flags.resume && given !== undefined && !before && flags.data === undefined)
    throw new UserError(
      'invalid_option',
      `--resume: no run was begun in ${given}: name its folder with --run`,
    )
  const recipe = flags.recipe === undefined ? undefined : readRecipe(flags.recipe, command)
  const data = absolute(flags.data) ?? before?.data ?? missing('--data', 'a folder made by apar data build')
  const out = absolute(flags.out) ?? before?.out ?? missing('--out', WRITES[command])
  const model = flags.model ?? before?.model ?? recipe?.model ?? baseOf(data)
  const plan: Plan = {
    command,
    data,
    adapter: absolute(flags.adapter) ?? before?.adapter,
    model: model ?? missing('--model', 'the model to tune, or none'),
    out,
    run: resolve(given ?? `${out}-run`),
    recipe: recipe?.name ?? before?.recipe,
    processes: flags.nproc ?? before?.processes ?? 1,
    resume: flags.resume === true,
    settings: mergedSettings(
      recipe?.settings ?? (before ? resumedSettings(before) : {}),
      givenSettings(flags, COMMAND_SETTINGS[command]),
    ),
  }
  if (before) refuseOtherRun(plan, before)
  return plan
}

/** The adapter of a run with a frozen model. @throws UserError `invalid_option` where the model has one already */
export function adapterOfPlan(plan: Plan, model: Pick<ModelFiles, 'adapter'>): string | undefined {
  return adapterOf({ ...model, name: plan.model }, plan)
}

/** The trainer's command line. */
export function trainerCommand(plan: Plan, found: ModelFiles): string[] {
  const { command, data, model, out, run, resume, settings } = plan
  const base = model === NO_MODEL ? [] : ['--base-name', model]
  const adapter = command === 'medusa' ? adapterOfPlan(plan, found) : undefined
  const adapted = adapter === undefined ? [] : ['--adapter', adapter]
  const files = ['--data', data, '--model', found.path, ...adapted, ...base, '--out', out, '--run', run]
  return [command, ...files, ...(resume ? ['--resume'] : []), ...settingArguments(settings)]
}

const Base = z.object({ path: z.string().optional() })

/** The model that the data were built for, if they say so. */
function baseOf(data: string): string | undefined {
  const file = join(data, 'model/base.json')
  return existsSync(file) ? parseJson(Base, readFileSync(file, 'utf8')).path : undefined
}

function absolute(path: string | undefined): string | undefined {
  return path === undefined ? undefined : resolve(path)
}

function missing(option: string, what: string): never {
  throw new UserError('missing_option', `${option} is needed: ${what}`)
}
