import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { z } from 'zod'
import { AlreadyExplained, UserError } from '../explain.ts'

/** Message from a gpu node to the process that started it. */
const Report = z.object({ type: z.literal('ready'), model: z.string(), url: z.string() })
export type Report = z.infer<typeof Report>

/**
 * Message to the child: the edge has started. `pids` are its processes, which the child must end when its parent, which
 * also started them, is killed.
 */
const EdgeStarted = z.object({ type: z.literal('edge'), url: z.string(), pids: z.array(z.int().min(2)) })

const CLOSE_GRACE_MS = 5_000

export interface GpuNodeProcess {
  /** Settles when the node is registered. @throws AlreadyExplained or UserError when the process ends before. */
  readonly ready: Promise<Report>
  /** Settles when the process has ended, with the cause: `exit code 1`, `SIGSEGV`. */
  readonly exited: Promise<string>
  /** The node waits for this before it registers; its model loads meanwhile. */
  edgeStarted(edge: { url: string; processes: readonly number[] }): void
  close(): Promise<void>
}

export interface GpuNodeProcessOptions {
  /** Arguments after `apar gpu-node`, without `--edge`. */
  args: readonly string[]
  nodeSecret: string
}

/** Option of `apar gpu-node`: the edge is started at the same time, and the parent tells where it is. */
export const EDGE_OF_PARENT = '--edge-of-parent'

/** Starts `apar gpu-node` as a child process. It ends with this process, because it watches the IPC channel. */
export function spawnGpuNode({ args, nodeSecret }: GpuNodeProcessOptions): GpuNodeProcess {
  const script = process.argv[1] ?? ''
  const child = spawn(process.execPath, [script, 'gpu-node', EDGE_OF_PARENT, ...args], {
    env: { ...process.env, NODE_SECRET: nodeSecret },
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    // Own process group: Ctrl-C reaches only the parent, which shuts down in order.
    detached: true,
  })
  const exited = once(child, 'exit').then(([code, signal]) => signal ?? `exit code ${code}`)
  let edge = false
  const ready = report(child, exited)
  // The edge may fail first; then nobody awaits this.
  ready.catch(() => {})
  return {
    ready,
    exited,
    edgeStarted: ({ url, processes }) => {
      edge = true
      if (child.connected)
        child.send({ type: 'edge', url, pids: [...processes] } satisfies z.input<typeof EdgeStarted>)
    },
    // Without an edge it has no streams to end in order, and waits for one.
    close: () => close(child, exited, edge ? 'SIGTERM' : 'SIGKILL'),
  }
}

/**
 * Called in the child: settles with the edge's URL when the parent says that the edge has started, and ends the edge's
 * processes when the parent has ended.
 */
export function edgeOfParent(): Promise<string> {
  const guarded = new Set<number>()
  return new Promise((resolve, reject) => {
    process.once('disconnect', () => {
      for (const pid of guarded) {
        try {
          process.kill(pid, 'SIGTERM')
        } catch {
          // The process has already ended.
        }
      }
      reject(new Error('the process that starts the edge has ended'))
    })
    process.on('message', (message) => {
      const edge = EdgeStarted.safeParse(message).data
      for (const pid of edge?.pids ?? []) guarded.add(pid)
      if (edge) resolve(edge.url)
    })
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

async function close(
  child: ChildProcess,
  exited: Promise<string>,
  signal: 'SIGTERM' | 'SIGKILL',
): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  child.kill(signal)
  const late = new AbortController()
  await Promise.race([exited, sleep(CLOSE_GRACE_MS, undefined, { signal: late.signal }).catch(() => {})])
  late.abort()
  if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL')
}
