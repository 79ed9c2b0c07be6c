import { existsSync } from 'node:fs'
import { tmpdir } from 'node:os'

const RAM_DISK = '/dev/shm'

/**
 * Where the local edge may keep its objects. Workerd makes a file for each of them, also for one that never stores anything, and
 * waits for the disk; Cloudflare does neither. In memory that costs the least.
 */
export const SCRATCH = existsSync(RAM_DISK) ? RAM_DISK : tmpdir()
