import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import type { EdgeWorker } from './edge-workers.ts'
import { DISK, SOCKET, variableOf, workerdConfig } from './workerd-config.ts'
import { workerdPath } from './workerd-path.ts'

export interface WorkerdOptions {
  readonly worker: EdgeWorker
  /** The folder with the worker's modules. */
  readonly modulesFolder: string
  /** The worker's text bindings. */
  readonly texts: Readonly<Record<string, string>>
  readonly host: string
  /** 0 takes any free port. */
  readonly port: number
  /** Where the stored objects are; default: a folder that goes when workerd ends. */
  readonly stateDir?: string | undefined
  /** Gets each line that workerd or the worker writes. */
  readonly onLine: (line: string, from: 'stdout' | 'stderr') => void
}

export interface Workerd {
  readonly pid: number
  /** The port, as soon as it is open. Rejects when the process ends before. */
  readonly listening: Promise<number>
  /** Settles when the process has ended. */
  readonly ended: Promise<void>
  /** Ends it at once: what is stored is on disk as soon as a request has its answer. */
  close(): Promise<void>
}

/**
 * Becomes workerd, and ends it when the pipe at 4 is closed: the system does that when this process ends, in whatever way
 * and at whatever moment.
 */
const ENDS_WITH_PARENT = '{ cat <&4 >/dev/null 2>&1; kill -9 $$; } 3>&- >/dev/null 2>&1 & exec "$0" "$@" 4<&-'

/** Starts workerd with the edge. @throws Error when the process cannot be started. */
export function startWorkerd(options: WorkerdOptions): Workerd {
  const { worker, modulesFolder, texts, host, port, stateDir, onLine } = options
  const folder = mkdtempSync(join(tmpdir(), 'apar-edge-'))
  const config = join(folder, 'edge.capnp')
  writeFileSync(config, workerdConfig(worker, Object.keys(texts)))
  const objects = stateDir ?? join(folder, 'objects')
  if (stateDir === undefined) mkdirSync(objects)
  const child = spawn(
    '/bin/sh',
    [
      ...['-c', ENDS_WITH_PARENT, workerdPath(), 'serve'],
      config,
      // For bindings with a module of ours.
      '--experimental',
      `--import-path=${modulesFolder}`,
      `--socket-addr=${SOCKET}=${host.includes(':') ? `[${host}]` : host}:${port}`,
      '--control-fd=3',
      `--directory-path=${DISK}=${objects}`,
    ],
    {
      stdio: ['ignore', 'pipe', 'pipe', 'pipe', 'pipe'],
      // Own process group: Ctrl-C reaches only the parent, which shuts down in order.
      detached: true,
      env: {
        ...process.env,
        ...Object.fromEntries(Object.entries(texts).map(([name, value]) => [variableOf(name), value])),
      },
    },
  )
  const kill = () => child.kill('SIGKILL')
  const ended = new Promise<void>((resolve) => {
    child.once('error', () => resolve())
    child.once('exit', () => resolve())
  }).finally(() => {
    // Its watcher ends with it.
    child.stdio[4]?.destroy()
    rmSync(folder, { recursive: true, force: true })
  })
  let lastError = ''
  createInterface(child.stdout as Readable).on('line', (line) => onLine(line, 'stdout'))
  createInterface(child.stderr as Readable).on('line', (line) => {
    // Addresses in its memory say nothing to anybody.
    if (!line.startsWith('stack:')) lastError = line
    onLine(line, 'stderr')
  })
  const listening = new Promise<number>((resolve, reject) => {
    child.once('error', reject)
    child.once('exit', (code, signal) => reject(new Error(lastError || `workerd ended: ${signal ?? code}`)))
    createInterface(child.stdio[3] as Readable).on('line', (line) => {
      const told: { event?: string; socket?: string; port?: number } = JSON.parse(line)
      if (told.event === 'listen' && told.socket === SOCKET && told.port !== undefined) resolve(told.port)
    })
  })
  // Whoever starts it may give up before.
  listening.catch(() => {})
  return {
    pid: child.pid ?? 0,
    listening,
    ended,
    close: async () => {
      if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return
      const exited = once(child, 'exit')
      kill()
      await exited
    },
  }
}
