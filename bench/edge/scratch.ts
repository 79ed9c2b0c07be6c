import { existsSync } from 'node:fs'
import { tmpdir } from 'node:os'

const RAM_DISK = '/dev/shm'

/**
 * Folder for what the local edge's Durable Objects store. workerd waits for the disk; Cloudflare does not. A RAM disk
 * keeps that cost low.
 */
export const SCRATCH = existsSync(RAM_DISK) ? RAM_DISK : tmpdir()
