import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { SCRATCH } from '../../bench/edge/scratch.ts'
import { newApiKey, newNodeSecret } from '../../cli/keys.ts'
import { type LocalEdge, type LocalEdgeOptions, startLocalEdge } from '../../cli/local/edge.ts'
import { packageRoot } from '../../gpu-node/package-root.ts'

/** An edge and gpu nodes in processes of their own, which can be killed. */
export interface LocalFleet {
  readonly url: string
  readonly key: string
  readonly nodeSecret: string
  nodeUrls(): string[]
  /** SIGKILL for the node with the most requests; `running`: the requests that it was decoding right before. */
  killBusiest(): Promise<{ pid: number; running: number }>
  /** SIGTERM for the node with the most requests; resolves when it has exited. */
  terminateBusiest(): Promise<void>
  /** As a runtime update does: connections and memory are lost, storage is kept. */
  restartEdge(): Promise<void>
  /** Starts another node, with further arguments; resolves when the edge knows it. */
  addNode(args?: readonly string[]): Promise<void>
  /** Process ids. */
  processes(): { edge: readonly number[]; nodes: readonly number[] }
  load(): Promise<{ running: number; waiting: number }[]>
  close(): Promise<void>
}

interface Node {
  readonly process: ChildProcess
  readonly url: string
}

const MAX_LOG_CHARS = 2_000

/** Starts the edge of a fleet. */
export type OpenEdge = (
  options: Pick<LocalEdgeOptions, 'port' | 'apiKeys' | 'nodeSecret' | 'stateDir'>,
) => Promise<Pick<LocalEdge, 'url' | 'processes' | 'close'>>

export interface FleetOptions {
  nodes: number
  drainSeconds?: number
  /** Further arguments of `apar gpu-node`. */
  nodeArgs?: readonly string[]
  /** Default: the edge as people run it. */
  openEdge?: OpenEdge
}

const openLocalEdge: OpenEdge = (options) => startLocalEdge({ host: '127.0.0.1', ...options })

export async function startFleet(options: FleetOptions): Promise<LocalFleet> {
  const nodeSecret = newNodeSecret()
  const { key, record } = newApiKey('test', 100_000)
  const stateDir = await mkdtemp(join(SCRATCH, 'apar-fleet-'))
  const { openEdge = openLocalEdge } = options
  const open = (port: number) => openEdge({ port, apiKeys: [record], nodeSecret, stateDir })
  let edge = await open(0)
  const { url } = edge
  const nodeArgs = ['--drain-seconds', String(options.drainSeconds ?? 25), ...(options.nodeArgs ?? [])]
  const nodes: Node[] = []
  const addNode = async (args: readonly string[] = []) => {
    nodes.push(await startNode(url, nodeSecret, [...nodeArgs, ...args]))
  }
  await Promise.all(Array.from({ length: options.nodes }, () => addNode()))
  const loadOf = async (node: Node) => {
    const response = await fetch(`${node.url.replace('ws:', 'http:')}/healthz`)
    return ((await response.json()) as { load: { running: number; waiting: number } }).load
  }
  const takeBusiest = async (): Promise<Node> => {
    const loads = await Promise.all(nodes.map(async (node) => ({ node, load: await loadOf(node) })))
    loads.sort((a, b) => b.load.running + b.load.waiting - (a.load.running + a.load.waiting))
    const [busiest] = loads
    if (!busiest) throw new Error('there is no gpu node left')
    nodes.splice(nodes.indexOf(busiest.node), 1)
    return busiest.node
  }
  return {
    url,
    key,
    nodeSecret,
    nodeUrls: () => nodes.map(({ url }) => url),
    killBusiest: async () => {
      const busiest = await takeBusiest()
      const { running } = await loadOf(busiest)
      busiest.process.kill('SIGKILL')
      return { pid: busiest.process.pid ?? 0, running }
    },
    terminateBusiest: async () => {
      const { process } = await takeBusiest()
      process.kill('SIGTERM')
      await once(process, 'exit')
    },
    restartEdge: async () => {
      await edge.close()
      edge = await open(Number(new URL(url).port))
    },
    addNode,
    processes: () => ({ edge: edge.processes, nodes: nodes.map(({ process }) => process.pid ?? 0) }),
    load: () => Promise.all(nodes.map(loadOf)),
    close: async () => {
      const exits = nodes.map(({ process }) => {
        const exit = once(process, 'exit')
        process.kill('SIGKILL')
        return exit
      })
      await Promise.all(exits)
      await edge.close()
      await rm(stateDir, { recursive: true, force: true })
    },
  }
}

/**
 * Runs the `apar gpu-node` command, which sends an IPC message when it is ready. Its log is shown only if it does not
 * start.
 */
async function startNode(edgeUrl: string, nodeSecret: string, more: readonly string[]): Promise<Node> {
  const args = ['gpu-node', '--model', 'demo', '--edge', edgeUrl, '--threads', '1', ...more]
  const child = spawn(process.execPath, [join(packageRoot, 'dist/apar.js'), ...args], {
    env: { ...process.env, NODE_SECRET: nodeSecret },
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  })
  let log = ''
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    log = (log + text).slice(-MAX_LOG_CHARS)
  })
  const ended = once(child, 'exit').then(() => {
    throw new Error(`a gpu node did not start: ${log}`)
  })
  const [message] = await Promise.race([once(child, 'message'), ended])
  return { process: child, url: (message as { url: string }).url }
}
