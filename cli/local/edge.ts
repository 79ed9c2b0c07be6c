import { existsSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { Log, LogLevel, Miniflare, type WorkerOptions } from 'miniflare'
import { packageRoot } from '../../gpu-node/package-root.ts'
import type { ApiKeyRecord } from '../../shared/api-keys.ts'
import { UserError } from '../explain.ts'
import { whenEnded, workerdProcesses } from './workerd-processes.ts'

export interface LocalEdgeOptions {
  host: string
  /** 0 takes any free one. */
  port: number
  apiKeys: ApiKeyRecord[]
  nodeSecret: string
  /** Further variables and secrets of the worker (edge/env.ts). */
  settings?: Record<string, string>
  /** Folder where keys and counts outlive this process; without it they end with it. */
  stateDir?: string | undefined
}

export interface LocalEdge {
  /** `http://host:port`, as this machine reaches it. */
  readonly url: string
  /** Ids of its processes. */
  readonly processes: readonly number[]
  /** Settles when one of them ends unasked. */
  readonly failed: Promise<void>
  close(): Promise<void>
}

/** The edge in workerd on this machine: no account, no network. @throws UserError in one line. */
export async function startLocalEdge(options: LocalEdgeOptions): Promise<LocalEdge> {
  const { host, port, apiKeys, nodeSecret, settings, stateDir } = options
  const { workerOptions, workerPath } = await loadEdgeBuild()
  if (!existsSync(workerPath))
    throw new UserError('edge_missing', `the edge is not built (${workerPath} is missing): run npm run setup`)
  // It holds prompts and answers.
  if (stateDir !== undefined) await mkdir(stateDir, { recursive: true, mode: 0o700 })
  // workerd would say it in several lines.
  if (port !== 0) await refuseTakenPort(host, port)
  const miniflare = withoutItsSignalHandlers(
    () =>
      new Miniflare({
        ...workerOptions,
        bindings: { ...settings, API_KEYS: JSON.stringify(apiKeys), NODE_SECRET: nodeSecret },
        ...(stateDir !== undefined && { durableObjectsPersist: resolve(stateDir) }),
        host,
        port: 0,
        // Past the worker that Miniflare puts before ours, which costs every frame and every request a hop.
        unsafeDirectSockets: [{ host, port }],
        cf: false,
        log: new Log(LogLevel.WARN),
        telemetry: { enabled: false },
      }),
  )
  try {
    await miniflare.ready
    const { port: bound } = await miniflare.unsafeGetDirectURL()
    const processes = workerdProcesses()
    return {
      url: `http://${reachable(host)}:${bound}`,
      processes,
      failed: whenEnded(processes),
      close: () => miniflare.dispose(),
    }
  } catch (error) {
    await miniflare.dispose().catch(() => {})
    throw new UserError(
      'edge_failed',
      `the edge did not start: ${error instanceof Error ? error.message.split('\n')[0] : error}`,
    )
  }
}

/** Miniflare ends the whole process at the first signal; here things end in order, and it is disposed of last. */
function withoutItsSignalHandlers<T>(make: () => T): T {
  const signals = ['SIGINT', 'SIGTERM'] as const
  const before = signals.map((signal) => process.listeners(signal))
  const made = make()
  for (const [index, signal] of signals.entries()) {
    for (const listener of process.listeners(signal)) {
      if (!before[index]?.includes(listener)) process.removeListener(signal, listener)
    }
  }
  return made
}

/** edge/build.mjs is plain JavaScript and knows the worker's bindings and flags. */
async function loadEdgeBuild(): Promise<{ workerOptions: WorkerOptions; workerPath: string }> {
  return await import(pathToFileURL(join(packageRoot, 'edge/build.mjs')).href)
}

function refuseTakenPort(host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const probe = createServer()
    probe.once('error', (error: NodeJS.ErrnoException) => {
      const taken = error.code === 'EADDRINUSE'
      const reason = taken ? 'is in use: take another with --port' : `cannot be opened (${error.message})`
      reject(new UserError(taken ? 'port_taken' : 'invalid_option', `port ${port} on ${host} ${reason}`))
    })
    probe.listen(port, host, () => probe.close(() => resolve()))
  })
}

function reachable(host: string): string {
  if (host === '0.0.0.0' || host === '::') return '127.0.0.1'
  return host.includes(':') ? `[${host}]` : host
}
