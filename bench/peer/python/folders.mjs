// Where the peers of `bench peers` lie: outside the repository, because they take gigabytes.
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'

/** Each has an environment of its own: their packages exclude each other. */
export const PEERS = ['vllm', 'openvino']

/** Environments, converted models, and what the peers compile. */
export const peersFolder = join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'apar/peers')

/** A peer's lock file, relative to the package root. @param {string} peer */
export const lockFile = (peer) => `bench/peer/python/${peer}.lock`

/** The environment of a peer's lock file. @param {string} peer @param {string} root the package root */
export function environmentFolder(peer, root) {
  const hash = createHash('sha256')
    .update(readFileSync(join(root, lockFile(peer))))
    .digest('hex')
  return join(peersFolder, `${peer}-${hash.slice(0, 12)}`)
}
