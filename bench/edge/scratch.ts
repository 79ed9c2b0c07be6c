import { existsSync } from 'node:fs'
import { tmpdir } from 'node:os'

const RAM_DISK = '/dev/shm'

/**
 * Folder for the local edge's Durable Objects. workerd creates a file for each object, even one that stores
 * nothing, and waits for the disk; Cloudflare does neither. A RAM disk keeps that cost low.
 */
export const SCRATCH = existsSync(RAM_DISK) ? RAM_DISK : tmpdir()
