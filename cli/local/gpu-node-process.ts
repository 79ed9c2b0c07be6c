import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { z } from 'zod'
import { AlreadyExplained, UserError } from '../explain.ts'
import { withoutSettingsOf } from '../settings/environment.ts'

/** Message from a gpu node to the process that started it. */
const Report = z.object({ type: z.literal('ready'), model: z.string(), url: z.string() })
export type Report = z.infer<typeof Report>

/** Message to the child: the edge answers here. */
const EdgeStarted = z.object({ type: z.literal('edge'), url: z.string() })
type EdgeStarted = z.infer<typeof EdgeStarted>

const CLOSE_GRACE_MS = 5_000

export interface GpuNodeProcess {
  /** Settles when the node is registered. @throws AlreadyExplained or UserError when the process ends before. */
  readonly ready: Promise<Report>
  /** Settles when the process has ended, with the cause: `exit code 1`, `SIGSEGV`. */
  readonly exited: Promise<string>
  /** The node waits for this before it registers; its model loads meanwhile. */
  edgeStarted(url: string): void
  close(): Promise<void>
}

export interface GpuNodeProcessOptions {
  /** Arguments after `apar gpu-node`, without `--edge`. */
  args: readonly string[]
  nodeSecret: string
  /** The command; default: the one that runs. */
  script?: string | undefined
  /** Further variables. */
  env?: Readonly<Record<string, string>>
}

/** Option of `apar gpu-node`: the edge is started at the same time, and the parent tells where it is. */
export const EDGE_OF_PARENT = '--edge-of-parent'

/** Reading a tokenizer makes a hundred megabytes of short-lived values: garbage collection was a tenth of the start. */
const HEAP = ['--min-semi-space-size=16', '--max-semi-space-size=16']

/** Starts `apar gpu-node` as a child process. It ends with this process, because it watches the IPC channel. */
export function spawnGpuNode({
  args,
  nodeSecret,
  script = process.argv[1] ?? '',
  env = {},
}: GpuNodeProcessOptions): GpuNodeProcess {
  const child = spawn(process.execPath, [...HEAP, script, 'gpu-node', EDGE_OF_PARENT, ...args], {
    env: { ...withoutSettingsOf('gpu-node'), ...env, NODE_SECRET: nodeSecret },
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    // Own process group: Ctrl-C reaches only the parent, which shuts down in order.
    detached: true,
  })
  const exited = once(child, 'exit').then(([code, signal]) => signal ?? `exit code ${code}`)
  let isReady = false
  const ready = report(child, exited).then((told) => {
    isReady = true
    return told
  })
  // The edge may fail first; then nobody awaits this.
  ready.catch(() => {})
  return {
    ready,
    exited,
    edgeStarted: (url) => {
      // It may end at any moment: whoever waits for it hears of that.
      if (child.connected) child.send({ type: 'edge', url } satisfies EdgeStarted, () => {})
    },
    // Before that it has no streams to end in order, and loading weights does not hear a signal.
    close: () => close(child, exited, isReady ? 'SIGTERM' : 'SIGKILL'),
  }
}

/**
 * Called in the child: settles with the edge's URL when the parent says that the edge has started. When the parent has
 * ended before, this process ends, too.
 */
export function edgeOfParent(): Promise<string> {
  return new Promise((resolve) => {
    let started = false
    process.on('message', (message) => {
      const told = EdgeStarted.safeParse(message).data
      if (!told) return
      started = true
      resolve(told.url)
    })
    const orphaned = () => {
      if (!started) process.exit(0)
    }
    // The parent may have ended before this; messages that it had sent come first.
    if (process.connected) process.once('disconnect', orphaned)
    else setImmediate(orphaned)
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
