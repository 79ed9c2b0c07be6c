import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { z } from 'zod'
import { packageRoot } from '../../gpu-node/package-root.ts'
import { AparError } from '../../shared/errors.ts'
import { parseJson } from '../../shared/parse.ts'
import { UserError } from '../explain.ts'
import {
  COMMAND_SETTINGS,
  type SettingName,
  type Settings,
  SettingsFile,
  TRAIN_COMMANDS,
  type TrainCommand,
} from './settings.ts'

export const RECIPE_FOLDER = join(packageRoot, 'training/recipes')

const Recipe = z.strictObject({
  /** What it is for: `apar train COMMAND`. */
  command: z.enum(TRAIN_COMMANDS).default('sft'),
  about: z.string(),
  /** Where the settings come from. */
  source: z.string(),
  /** As `--model` takes it. */
  model: z.string(),
  /** Options for `apar data build` that go with it. */
  data: z.string(),
  /** How many GPUs it is made for; 0: it runs on a CPU too. */
  gpus: z.int().min(0),
  settings: SettingsFile,
})

export interface Recipe extends Omit<z.infer<typeof Recipe>, 'settings'> {
  readonly name: string
  readonly settings: Settings
}

/** The names of the recipes that come with apar. */
export function recipeNames(): string[] {
  const files = readdirSync(RECIPE_FOLDER).filter((file) => file.endsWith('.json'))
  return files.map((file) => basename(file, '.json')).sort()
}

/**
 * A recipe by its name, or by the path of its file.
 * @throws UserError `invalid_option`, also for a recipe of another command than `wanted`
 */
export function readRecipe(nameOrFile: string, wanted?: TrainCommand): Recipe {
  const named = join(RECIPE_FOLDER, `${nameOrFile}.json`)
  const isName = /^[\w.-]+$/.test(nameOrFile) && existsSync(named)
  const path = isName ? named : nameOrFile
  if (!existsSync(path)) {
    const names = recipeNames().join(', ')
    throw new UserError('invalid_option', `--recipe: ${path} does not exist, and the recipes are ${names}`)
  }
  try {
    const { settings, ...recipe } = parseJson(Recipe, readFileSync(path, 'utf8'))
    checkCommand(path, recipe.command, Object.keys(settings) as SettingName[], wanted)
    return { ...recipe, settings: settings as Settings, name: basename(path, '.json') }
  } catch (error) {
    if (!(error instanceof AparError)) throw error
    const reason = error.code === 'invalid_json' ? 'is not valid JSON' : error.message
    throw new UserError('invalid_option', `--recipe: ${path}: ${reason}`)
  }
}

function checkCommand(
  path: string,
  command: TrainCommand,
  settings: readonly SettingName[],
  wanted: TrainCommand | undefined,
): void {
  if (wanted !== undefined && command !== wanted) {
    throw new UserError('invalid_option', `--recipe: ${path} is for apar train ${command}`)
  }
  const other = settings.find((name) => !COMMAND_SETTINGS[command].includes(name))
  if (other !== undefined) {
    throw new UserError('invalid_option', `--recipe: ${path}: apar train ${command} has no setting ${other}`)
  }
}
