import { rmSync } from 'node:fs'
import { mkdir, mkdtemp, readdir, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { processIdentity } from '../lock/process-identity.ts'

/** `.pull-<pid>-<space>-<birth>-<random>`, see ProcessIdentity. */
const NAME = /^\.pull-(\d+)-([0-9a-f]+)-([0-9a-f]+)-/
/** A folder from another pid namespace or an earlier boot that has not changed for this long is stale. */
const STALE_MS = 24 * 60 * 60_000

/** Runs `use` with a new folder in a cache, which goes with it, or at the latest with the process. */
export async function withPullFolder<T>(cache: string, use: (folder: string) => Promise<T>): Promise<T> {
  await mkdir(cache, { recursive: true })
  await sweep(cache)
  const { pid, space, birth } = processIdentity(process.pid)
  const folder = await mkdtemp(join(cache, `.pull-${pid}-${space}-${birth}-`))
  // pip may write its last file meanwhile.
  const clean = () => rmSync(folder, { recursive: true, force: true, maxRetries: 5 })
  // A progress bar ends the process at Ctrl-C.
  process.once('exit', clean)
  try {
    return await use(folder)
  } finally {
    process.off('exit', clean)
    clean()
  }
}

/** Removes the folders of processes that were killed. */
async function sweep(cache: string): Promise<void> {
  for (const name of await readdir(cache)) {
    const folder = join(cache, name)
    try {
      if (await isStale(folder, name)) await rm(folder, { recursive: true, force: true })
    } catch {
      // Another pull may remove it too, or it is another user's: no reason not to pull.
    }
  }
}

async function isStale(folder: string, name: string): Promise<boolean> {
  const [, pid, space, birth] = NAME.exec(name) ?? []
  if (pid === undefined) return false
  if (space === processIdentity(process.pid).space) return processIdentity(Number(pid)).birth !== birth
  const { mtimeMs } = await stat(folder)
  return Date.now() - mtimeMs > STALE_MS
}
