import { readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { UserError } from '../explain.ts'
import { type ProcessIdentity, processIdentity } from './process-identity.ts'

/** Behind the prefix: `<pid>-<space>-<birth>.lock`, see {@link ProcessIdentity}. */
const CLAIM = /^(\d+)-([0-9a-f]+)-([0-9a-f]+)\.lock$/
/** apar serve was the first to take folders. */
const PREFIX = 'serve-'
const TOUCH_MS = 5_000
/** A claim from another pid namespace whose holder has not touched it for this long is stale. */
const STALE_MS = 4 * TOUCH_MS
const ATTEMPTS = 8

/** The right to use a folder, for this process and for those that it adds. */
export interface FolderLock {
  /** The folder is taken as long as this process lives, too: it may outlive the one that started it. */
  add(pid: number): void
  release(): void
}

/** The error for a folder that is in use `by` a process. */
type Refusal = (by: string) => UserError

/**
 * Takes a folder for this process.
 *
 * Every process that uses the folder has a claim in it, a file whose name says which process that is. A claim's
 * name is never used again, not even by a later process with the same pid, so that anybody may remove the claim of a
 * process that has ended: no newer lock can be in its place. A process first makes its own claim and then looks for
 * others, so of two that start at the same time at least one sees the other. Both may; then each withdraws, and tries
 * again after a random time.
 * @param prefix of the claims' names: what several things in one folder are told apart by.
 * @throws what `refuse` makes, when the folder is in use.
 */
export async function lockFolder(folder: string, refuse: Refusal, prefix = PREFIX): Promise<FolderLock> {
  for (let attempt = 1; ; attempt++) {
    const own = claimName(prefix, processIdentity(process.pid))
    makeClaim(folder, own, refuse)
    const holder = livingClaims(folder, prefix, own)[0]
    if (holder === undefined) return hold(folder, prefix, own, refuse)
    rmSync(join(folder, own))
    if (attempt === ATTEMPTS) throw refuse(`process ${holder}`)
    await sleep(50 + Math.random() * 250)
  }
}

function hold(folder: string, prefix: string, own: string, refuse: Refusal): FolderLock {
  const claims = new Set([own])
  const touch = setInterval(() => {
    for (const claim of claims) {
      try {
        // Written, so that its time is by the clock of the file system, with which others compare it. Not created anew.
        writeFileSync(join(folder, claim), '\n', { flag: 'r+' })
      } catch {
        // The disk may be full, or the folder gone; the next touch may succeed.
      }
    }
  }, TOUCH_MS)
  touch.unref()
  return {
    add: (pid) => {
      const claim = claimName(prefix, processIdentity(pid))
      makeClaim(folder, claim, refuse)
      claims.add(claim)
    },
    release: () => {
      clearInterval(touch)
      for (const claim of claims) rmSync(join(folder, claim), { force: true })
    },
  }
}

function claimName(prefix: string, { pid, space, birth }: ProcessIdentity): string {
  return `${prefix}${pid}-${space}-${birth}.lock`
}

/** @throws UserError when this process has claimed the folder already. */
function makeClaim(folder: string, name: string, refuse: Refusal): void {
  try {
    writeFileSync(join(folder, name), '', { flag: 'wx', mode: 0o600 })
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') throw refuse('this process')
    throw error
  }
}

/** The pids of the living processes with a claim; removes the claims of those that have ended. */
function livingClaims(folder: string, prefix: string, own: string): string[] {
  const now = statSync(join(folder, own)).mtimeMs
  return readdirSync(folder).flatMap((name) => {
    const claim = name.startsWith(prefix) ? name.slice(prefix.length) : ''
    const [, pid, space = '', birth = ''] = CLAIM.exec(claim) ?? []
    if (pid === undefined || name === own) return []
    if (lives(join(folder, name), { pid: Number(pid), space, birth }, now)) return [pid]
    rmSync(join(folder, name), { force: true })
    return []
  })
}

function lives(path: string, claimed: ProcessIdentity, now: number): boolean {
  if (claimed.space === processIdentity(process.pid).space)
    return processIdentity(claimed.pid).birth === claimed.birth
  // A process of another container or of an earlier boot: its pid says nothing here.
  const touched = statSync(path, { throwIfNoEntry: false })?.mtimeMs
  return touched !== undefined && Math.abs(now - touched) < STALE_MS
}
