import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { z } from 'zod'
import { AlreadyExplained, UserError } from '../explain.ts'

/** Message from a gpu node to the process that started it. */
const Report = z.object({ type: z.literal('ready'), model: z.string(), url: z.string() })
export type Report = z.infer<typeof Report>

/** Message to the child: processes that it must end when its parent, which also started them, is killed. */
const Guard = z.object({ type: z.literal('guard'), pids: z.array(z.int().min(2)) })

const CLOSE_GRACE_MS = 5_000

export interface GpuNodeProcess {
  /** Settles when the node is registered. @throws AlreadyExplained or UserError when the process ends before. */
  readonly ready: Promise<Report>
  /** Settles when the process has ended, with the cause: `exit code 1`, `SIGSEGV`. */
  readonly exited: Promise<string>
  close(): Promise<void>
}

export interface GpuNodeProcessOptions {
  /** Arguments after `apar gpu-node`. */
  args: readonly string[]
  nodeSecret: string
  /** Ids of processes that must not outlive this one; the child ends them when this process is killed. */
  guarded: readonly number[]
}

/** Starts `apar gpu-node` as a child process. It ends with this process, because it watches the IPC channel. */
export function spawnGpuNode({ args, nodeSecret, guarded }: GpuNodeProcessOptions): GpuNodeProcess {
  const script = process.argv[1] ?? ''
  const child = spawn(process.execPath, [script, 'gpu-node', ...args], {
    env: { ...process.env, NODE_SECRET: nodeSecret },
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    // Own process group: Ctrl-C reaches only the parent, which shuts down in order.
    detached: true,
  })
  child.send({ type: 'guard', pids: guarded })
  const exited = once(child, 'exit').then(([code, signal]) => signal ?? `exit code ${code}`)
  return { ready: report(child, exited), exited, close: () => close(child, exited) }
}

/** Called in the child: ends the guarded processes when the parent has ended. */
export function guardForParent(): void {
  const guarded = new Set<number>()
  process.on('message', (message) => {
    const guard = Guard.safeParse(message)
    for (const pid of guard.data?.pids ?? []) guarded.add(pid)
  })
  process.once('disconnect', () => {
    for (const pid of guarded) {
      try {
        process.kill(pid, 'SIGTERM')
      } catch {
        // The process has already ended.
      }
    }
  })
}

/** No-op when the process was not started by {@link spawnGpuNode}. */
export function reportToParent(message: Report): void {
  if (process.connected) process.send?.(message)
}

async function report(child: ChildProcess, exited: Promise<string>): Promise<Report> {
  const message = once(child, 'message').then(([value]) => Report.parse(value))
  const early = exited.then((how) => {
    // A child that exits with a code has printed its error.
    if (child.exitCode) throw new AlreadyExplained()
    throw new UserError('gpu_node_ended', `the gpu node did not start (${how})`)
  })
  return await Promise.race([message, early])
}

async function close(child: ChildProcess, exited: Promise<string>): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  child.kill('SIGTERM')
  const late = new AbortController()
  await Promise.race([exited, sleep(CLOSE_GRACE_MS, undefined, { signal: late.signal }).catch(() => {})])
  late.abort()
  if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL')
}
