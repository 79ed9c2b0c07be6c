import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { z } from 'zod'
import { UserError } from '../explain.ts'

/** What a gpu node tells the process that started it. */
const Report = z.object({ type: z.literal('ready'), model: z.string(), url: z.string() })
export type Report = z.infer<typeof Report>

const CLOSE_GRACE_MS = 5_000

export interface GpuNodeProcess {
  /** Settles once the edge knows the node. @throws UserError when it ends before. */
  readonly ready: Promise<Report>
  /** Settles when the process has ended, for whatever reason. */
  readonly exited: Promise<void>
  close(): Promise<void>
}

export interface GpuNodeProcessOptions {
  /** Arguments after `apar gpu-node`. */
  args: readonly string[]
  nodeSecret: string
}

/** Starts `apar gpu-node` as a child. It ends when this process does: it watches the channel between the two. */
export function spawnGpuNode({ args, nodeSecret }: GpuNodeProcessOptions): GpuNodeProcess {
  const script = process.argv[1] ?? ''
  const child = spawn(process.execPath, [script, 'gpu-node', ...args], {
    env: { ...process.env, NODE_SECRET: nodeSecret },
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    // Its own group: a Ctrl-C reaches only the parent, which ends things in order.
    detached: true,
  })
  const exited = once(child, 'exit').then(() => {})
  return { ready: report(child, exited), exited, close: () => close(child, exited) }
}

/** No-op when the process was not started by {@link spawnGpuNode}. */
export function reportToParent(message: Report): void {
  process.send?.(message)
}

async function report(child: ChildProcess, exited: Promise<void>): Promise<Report> {
  const message = once(child, 'message').then(([value]) => Report.parse(value))
  const early = exited.then(() => {
    // Its own line is on standard error already.
    throw new UserError('the gpu node did not start')
  })
  return await Promise.race([message, early])
}

async function close(child: ChildProcess, exited: Promise<void>): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  child.kill('SIGTERM')
  const late = new AbortController()
  await Promise.race([exited, sleep(CLOSE_GRACE_MS, undefined, { signal: late.signal }).catch(() => {})])
  late.abort()
  if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL')
}
