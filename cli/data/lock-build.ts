import { mkdir } from 'node:fs/promises'
import { basename, dirname, resolve } from 'node:path'
import { UserError } from '../explain.ts'
import { lockFolder } from '../lock/folder-lock.ts'

/**
 * Runs `work` while no other process builds into the same folder. The lock lies beside it, because a build's folder is
 * replaced by another.
 * @throws UserError `build_in_use`
 */
export async function whileBuilding<T>(out: string, work: () => Promise<T>): Promise<T> {
  const folder = resolve(out)
  await mkdir(dirname(folder), { recursive: true })
  const refuse = (by: string) =>
    new UserError('build_in_use', `${out} is being built by ${by}: wait for it, or choose another --out`)
  const lock = await lockFolder(dirname(folder), refuse, `.${basename(folder)}.building-`)
  try {
    return await work()
  } finally {
    lock.release()
  }
}
