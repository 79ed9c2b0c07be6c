import { existsSync, statSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { StartupError } from '../../startup-error.ts'
import { MEDUSA_CONFIG } from './medusa-config.ts'

/** What the option `medusa` is to leave out a checkpoint's heads. A folder of this name is `./none`. */
export const NO_MEDUSA = 'none'

/**
 * The folder of the Medusa heads: the one that the option names, or `medusa/` in the adapter's folder, or in the
 * checkpoint's. `checkpoint`: a folder, or a GGUF file.
 * @throws StartupError `invalid_option` when the option's folder has no heads
 */
export function findMedusa(checkpoint: string, option?: string, adapter?: string): string | undefined {
  if (option === NO_MEDUSA) return undefined
  if (option !== undefined) {
    const folder = resolve(option)
    if (existsSync(join(folder, MEDUSA_CONFIG))) return folder
    const what = statSync(folder, { throwIfNoEntry: false })?.isDirectory()
      ? `has no ${MEDUSA_CONFIG}`
      : 'is no folder'
    throw new StartupError('invalid_option', `Medusa heads: ${folder} ${what}`)
  }
  const places = [...(adapter === undefined ? [] : [resolve(adapter)]), checkpoint]
  return places
    .map((place) => join(place, 'medusa'))
    .find((folder) => existsSync(join(folder, MEDUSA_CONFIG)))
}
