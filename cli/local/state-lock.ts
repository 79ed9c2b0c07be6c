import { UserError } from '../explain.ts'
import { type FolderLock, lockFolder } from '../lock/folder-lock.ts'

/** Takes the state folder of `apar serve` for this process. @throws UserError `state_taken` */
export function lockState(folder: string): Promise<FolderLock> {
  const advice = 'end that one first, or take another folder with --state'
  return lockFolder(
    folder,
    (by) => new UserError('state_taken', `the state folder ${folder} is in use by ${by}: ${advice}`),
  )
}
