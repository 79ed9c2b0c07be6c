import { existsSync, readdirSync, readFileSync, realpathSync } from 'node:fs'
import { join, relative, resolve } from 'node:path'
import { UserError } from '../explain.ts'
import { hasInvocations } from './invocations.ts'

/** What a run writes into its folder, and the field of config.json that every such folder has. */
interface Kind {
  readonly files: RegExp
  readonly field: string
}

/** The page of a model is kept, heads of the weights before are not. */
const MODEL: Kind = {
  files: new RegExp(
    [
      '^(config|generation_config|adapter_config|model\\.safetensors\\.index)\\.json$',
      '^(tokenizer|tokenizer_config|special_tokens_map|added_tokens)\\.json$',
      '^(tokenizer\\.model|chat_template\\.jinja|medusa|.*\\.md)$',
      '^(adapter_)?model(-\\d+-of-\\d+)?\\.safetensors$',
    ].join('|'),
  ),
  field: 'branching',
}
const HEADS: Kind = {
  files: /^(config\.json|medusa_lm_head\.safetensors|.*\.md)$/,
  field: 'medusa_num_heads',
}

interface Paths {
  readonly data: string
  readonly out: string
  readonly run: string
  /** Where the model that is tuned lies, if it is one. */
  readonly model: string | undefined
  readonly adapter?: string | undefined
}

/**
 * The model folder of a run is replaced when the run ends.
 * @throws UserError `foreign_folder` for a folder with anything that no run writes, or that the run itself needs
 */
export function checkModelFolder(paths: Paths): void {
  checkOut(paths, MODEL)
}

/** The same of a folder of Medusa heads. @throws UserError `foreign_folder` */
export function checkHeadsFolder(paths: Paths): void {
  checkOut(paths, HEADS)
}

function checkOut({ out, ...needed }: Paths, kind: Kind): void {
  for (const [name, path] of Object.entries(needed)) {
    if (path !== undefined && isWithin(out, path)) throw foreign('--out', out, `--${name} is in it`)
  }
  const files = filesOf('--out', out)
  if (files.length === 0) return
  const other = files.find((name) => !kind.files.test(name))
  if (other !== undefined) throw foreign('--out', out, `it has ${other}, which no run writes`)
  if (!hasField(join(out, 'config.json'), kind.field))
    throw foreign('--out', out, `it has ${files[0]}, but no config.json with the ${kind.field} of a run`)
}

/** Log and states in the folder of a run are replaced. @throws UserError `foreign_folder` for a folder of another kind */
export function checkRunFolder(run: string): void {
  const files = filesOf('--run', run).filter((name) => !name.endsWith('.lock'))
  if (files.length === 0 || hasInvocations(run) || isLog(join(run, 'log.jsonl'))) return
  throw foreign('--run', run, `it has ${files[0]}, but no invocations.jsonl of a run`)
}

/** Whether the trainer has saved a state there. */
export function hasState(run: string): boolean {
  return existsSync(run) && readdirSync(run).some((name) => /^state-\d+$/.test(name))
}

function foreign(option: string, folder: string, why: string): UserError {
  return new UserError('foreign_folder', `${option}: ${folder} would be replaced, and ${why}: choose another`)
}

function filesOf(option: string, folder: string): string[] {
  try {
    return readdirSync(folder).sort()
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw new UserError('invalid_option', `${option}: ${folder} is no folder`)
  }
}

function hasField(config: string, field: string): boolean {
  const value = parsed(existsSync(config) ? readFileSync(config, 'utf8') : '')
  return value?.[field] !== undefined
}

/** A run that was started without apar, by the line that it prints. */
function isLog(file: string): boolean {
  const [first = ''] = existsSync(file) ? readFileSync(file, 'utf8').split('\n', 1) : []
  return typeof parsed(first)?.event === 'string'
}

function parsed(json: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(json)
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined
  } catch {
    return undefined
  }
}

function isWithin(folder: string, path: string): boolean {
  const way = relative(real(folder), real(path))
  return way === '' || !(way.startsWith('..') || resolve(way) === way)
}

function real(path: string): string {
  return existsSync(path) ? realpathSync(path) : resolve(path)
}
