import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, readFileSync, readlinkSync } from 'node:fs'
import { hostname } from 'node:os'

/** Identifies a process for ever: a later one with the same pid has another birth. */
export interface ProcessIdentity {
  readonly pid: number
  /** Where the pid is valid: this boot of this machine, and this pid namespace (a container has its own). */
  readonly space: string
  /** When the process started; empty when there is no such process. */
  readonly birth: string
}

const HAS_PROC = existsSync('/proc/self/stat')

export function processIdentity(pid: number): ProcessIdentity {
  const birth = HAS_PROC ? birthFromProc(pid) : birthFromPs(pid)
  return { pid, space: space(), birth: birth === undefined ? '' : short(birth) }
}

function space(): string {
  if (!HAS_PROC) return short(hostname())
  return short(
    `${readFileSync('/proc/sys/kernel/random/boot_id', 'utf8')} ${readlinkSync('/proc/self/ns/pid')}`,
  )
}

/** In clock ticks since the machine's boot. */
function birthFromProc(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    // The name of the program may hold anything but ends with the last parenthesis; state is the 3rd field.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    return fields[0] === 'Z' || fields[0] === 'X' ? undefined : fields[22 - 3]
  } catch {
    return undefined
  }
}

function birthFromPs(pid: number): string | undefined {
  try {
    return execFileSync('ps', ['-o', 'lstart=', '-p', String(pid)], { encoding: 'utf8' }).trim() || undefined
  } catch {
    return undefined
  }
}

function short(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 16)
}
