import { readdirSync, readFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'

const CPUS = '/sys/devices/system/cpu'

/** Number of physical cores that this process may use: hyperthreads of one core share the units that decoding needs. */
export function physicalCores(): number {
  const usable = availableParallelism()
  try {
    const siblings = readdirSync(CPUS)
      .filter((name) => /^cpu\d+$/.test(name))
      .map((name) => readFileSync(`${CPUS}/${name}/topology/thread_siblings_list`, 'utf8'))
    return Math.max(1, Math.min(usable, new Set(siblings).size))
  } catch {
    // Not Linux, or a container without sysfs.
    return usable
  }
}
