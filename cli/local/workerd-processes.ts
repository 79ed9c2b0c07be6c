import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'

const POLL_MS = 1_000
const WATCH_MS = 25

/**
 * Ids of the workerd processes that this process started. Miniflare ends them on dispose, but if this process is
 * killed they keep running and hold the port; another process can end them by these ids.
 */
export function workerdProcesses(): number[] {
  const children = childrenFromProc() ?? (existsSync('/proc/self/stat') ? fromProc() : fromPs())
  return children.filter(({ name }) => name.includes('workerd')).map(({ pid }) => pid)
}

/** Calls `onProcess` for each workerd of this process soon after it has started, until `stop`, which returns all of them. */
export function watchWorkerd(onProcess: (pid: number) => void): { stop(): number[] } {
  const known = new Set<number>()
  const look = () => {
    for (const pid of workerdProcesses()) {
      if (!known.has(pid)) onProcess(pid)
      known.add(pid)
    }
  }
  const timer = setInterval(look, WATCH_MS)
  return {
    stop: () => {
      clearInterval(timer)
      look()
      return [...known]
    },
  }
}

/** Settles when one of these processes has ended; polls once a second without keeping this process alive. */
export function whenEnded(pids: readonly number[]): Promise<void> {
  return new Promise((resolve) => {
    const timer = setInterval(() => {
      if (pids.every(isAlive)) return
      clearInterval(timer)
      resolve()
    }, POLL_MS)
    timer.unref()
  })
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

interface Child {
  pid: number
  name: string
}

/** Undefined where the kernel does not list a thread's children. It is asked often while the edge starts. */
function childrenFromProc(): Child[] | undefined {
  try {
    // Node starts all processes in its main thread.
    const pids = readFileSync(`/proc/self/task/${process.pid}/children`, 'utf8').split(' ').filter(Boolean)
    return pids.flatMap((pid) => {
      try {
        return [{ pid: Number(pid), name: readFileSync(`/proc/${pid}/comm`, 'utf8') }]
      } catch {
        return [] // The process has just ended.
      }
    })
  } catch {
    return undefined
  }
}

function fromProc(): Child[] {
  const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name))
  return pids.flatMap((pid) => {
    try {
      // "18939 (workerd) S 18927 ..."; the name may hold anything but ends with the last parenthesis.
      const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
      const end = stat.lastIndexOf(')')
      const parent = Number(stat.slice(end + 2).split(' ')[1])
      if (parent !== process.pid) return []
      return [{ pid: Number(pid), name: stat.slice(stat.indexOf('(') + 1, end) }]
    } catch {
      return [] // The process has just ended.
    }
  })
}

function fromPs(): Child[] {
  try {
    const lines = execFileSync('ps', ['-Ao', 'pid=,ppid=,comm='], { encoding: 'utf8' }).trim().split('\n')
    return lines.flatMap((line) => {
      const [pid = '', parent = '', ...name] = line.trim().split(/\s+/)
      return Number(parent) === process.pid ? [{ pid: Number(pid), name: name.join(' ') }] : []
    })
  } catch {
    return []
  }
}
