import { existsSync, mkdirSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'

/** A folder of a checkpoint, which is written once per machine. */
export function writtenOnce(folder: string, write: (partial: string) => void): string {
  if (existsSync(join(folder, 'config.json'))) return folder
  // Written elsewhere and renamed, so that a concurrent run never reads a partial model.
  const partial = `${folder}.${process.pid}`
  mkdirSync(partial, { recursive: true })
  write(partial)
  rmSync(folder, { recursive: true, force: true })
  renameSync(partial, folder)
  return folder
}
