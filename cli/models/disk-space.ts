import { statfs } from 'node:fs/promises'
import { dirname } from 'node:path'
import { UserError } from '../explain.ts'
import { showBytes } from './show.ts'

const ADVICE = 'free some space, or set HF_HOME (XDG_CACHE_HOME) to a folder on another disk'

/** @throws UserError `disk_full` when the disk of `folder`, which need not exist yet, has no `bytes` free. */
export async function checkSpace(folder: string, bytes: number): Promise<void> {
  const free = await freeBytes(folder)
  if (free === undefined || bytes <= free) return
  const what = `${showBytes(bytes)} are to be downloaded to ${folder}, and its disk has ${showBytes(free)} free`
  throw new UserError('disk_full', `${what}: ${ADVICE}`)
}

/** The error for the user, if a write failed because the disk is full. */
export function noSpace(error: unknown, path: string): UserError | undefined {
  const code = error instanceof Error && 'code' in error ? error.code : undefined
  if (code !== 'ENOSPC' && code !== 'EDQUOT') return undefined
  return new UserError('disk_full', `the disk of ${dirname(path)} is full: ${ADVICE}`)
}

/** Undefined where the system does not say. */
export async function freeBytes(folder: string): Promise<number | undefined> {
  try {
    const { bavail, bsize } = await statfs(folder)
    return bavail * bsize
  } catch (error) {
    const missing = error instanceof Error && 'code' in error && error.code === 'ENOENT'
    return missing && dirname(folder) !== folder ? await freeBytes(dirname(folder)) : undefined
  }
}
