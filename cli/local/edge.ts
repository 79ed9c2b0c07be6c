import { existsSync, mkdirSync, statSync } from 'node:fs'
import { createServer } from 'node:net'
import { dirname, join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { packageRoot } from '../../gpu-node/package-root.ts'
import type { ApiKeyRecord } from '../../shared/api-keys.ts'
import { UserError } from '../explain.ts'
import type { FolderLock } from '../lock/folder-lock.ts'
import { type EdgeWorker, stateFolders } from './edge-workers.ts'
import { RuntimeOutput } from './runtime-output.ts'
import { cleanState } from './state-cleanup.ts'
import { lockState } from './state-lock.ts'
import { startWorkerd, type Workerd } from './workerd.ts'

export interface LocalEdgeOptions {
  host: string
  /** 0 takes any free port. */
  port: number
  apiKeys: ApiKeyRecord[]
  nodeSecret: string
  /** Further variables and secrets of the worker (edge/env.ts). */
  settings?: Record<string, string>
  /** Header in which a proxy in front of the edge gives the client's IP address; by default there is no such proxy. */
  addressHeader?: string | undefined
  /** Folder that stores keys and usage; without it they are lost when this process ends. */
  stateDir?: string | undefined
}

export interface LocalEdge {
  /** `http://host:port`, reachable from this machine. */
  readonly url: string
  /** Process ids of workerd. */
  readonly processes: readonly number[]
  /** Settles when one of these processes has ended. */
  readonly failed: Promise<void>
  close(): Promise<void>
}

/**
 * Starts the edge in workerd on this machine: needs no account and no network.
 * @throws UserError with a one-line message.
 */
export async function startLocalEdge(options: LocalEdgeOptions): Promise<LocalEdge> {
  return await (await claimLocalEdge(options)).start()
}

/** An edge that may start: its port is free, and its state folder is this process's. */
export interface ClaimedEdge {
  /** Must be called, because it also gives the folder back. @throws UserError */
  start(): Promise<LocalEdge>
}

/** @throws UserError with a one-line message. */
export async function claimLocalEdge(options: LocalEdgeOptions): Promise<ClaimedEdge> {
  const { host, port, stateDir } = options
  const build = await loadEdgeBuild()
  // Checked here because workerd would report it in several lines.
  if (port !== 0) await refuseTakenPort(host, port)
  const lock = stateDir === undefined ? undefined : await takeState(resolve(stateDir), build.worker)
  return { start: () => start(options, build, lock) }
}

async function start(
  { host, port, apiKeys, nodeSecret, settings, addressHeader = '', stateDir }: LocalEdgeOptions,
  { worker, modulesFolder }: EdgeBuild,
  lock: FolderLock | undefined,
): Promise<LocalEdge> {
  const texts = {
    ...settings,
    API_KEYS: JSON.stringify(apiKeys),
    NODE_SECRET: nodeSecret,
    CLIENT_ADDRESS_HEADER: addressHeader,
  }
  const output = {
    stdout: new RuntimeOutput((line) => console.log(line)),
    stderr: new RuntimeOutput((line) => console.error(line)),
  }
  let runtime: Workerd | undefined
  try {
    runtime = startWorkerd({
      ...{ worker, modulesFolder, texts, host, port },
      stateDir: stateDir && resolve(stateDir),
      onLine: (line, from) => output[from].line(line),
    })
    const { pid, ended } = runtime
    lock?.add(pid)
    const bound = await runtime.listening
    return {
      url: `http://${reachable(host)}:${bound}`,
      processes: [pid],
      failed: ended,
      close: async () => {
        await runtime?.close()
        lock?.release()
      },
    }
  } catch (error) {
    await runtime?.close()
    lock?.release()
    const reason = error instanceof Error ? error.message.split('\n')[0] : error
    const isDamaged = stateDir !== undefined && /sqlite/i.test(String(reason))
    const remedy = isDamaged
      ? `; what is stored in ${stateDir} cannot be read: bring back a copy of it, or take another folder with --state`
      : ''
    throw new UserError('edge_failed', `the edge did not start: ${reason}${remedy}`)
  }
}

/** Makes the folder if it is missing, takes it for this process, and cleans it. @throws UserError `state_taken` */
async function takeState(folder: string, worker: EdgeWorker): Promise<FolderLock> {
  makeFolder(folder)
  const lock = await lockState(folder)
  cleanState(folder, stateFolders(worker))
  return lock
}

/**
 * Makes the state folder, with the folders above it. Not by `recursive`, which never returns where the system lets nobody make one
 * (/proc).
 */
export function makeFolder(folder: string): void {
  const above = dirname(folder)
  if (above !== folder && !existsSync(above)) makeFolder(above)
  try {
    // Owner only: the folder contains prompts.
    mkdirSync(folder, { mode: 0o700 })
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    if (code === 'EEXIST' && statSync(folder, { throwIfNoEntry: false })?.isDirectory()) return
    const why = code === 'EEXIST' ? 'it is a file' : message
    throw new UserError('invalid_option', `the state folder ${folder} cannot be made: ${why}`)
  }
}

interface EdgeBuild {
  readonly worker: EdgeWorker
  readonly modulesFolder: string
}

/** edge/build.mjs is plain JavaScript and defines the worker's bindings and flags. */
async function loadEdgeBuild(): Promise<EdgeBuild> {
  const { workerOptions, workerPath } = (await import(
    pathToFileURL(join(packageRoot, 'edge/build.mjs')).href
  )) as { workerOptions: EdgeWorker; workerPath: string }
  if (!existsSync(workerPath))
    throw new UserError('edge_missing', `the edge is not built (${workerPath} is missing): run npm run setup`)
  return { worker: workerOptions, modulesFolder: dirname(workerPath) }
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
