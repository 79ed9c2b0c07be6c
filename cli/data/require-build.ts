import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { UserError } from '../explain.ts'

/** @throws UserError `invalid_option` when the folder is none that `apar data build` or `merge` has finished. */
export function requireBuild(folder: string): void {
  if (!existsSync(join(folder, 'report.json')))
    throw new UserError('invalid_option', `${folder} is no build: apar data build makes one`)
}
