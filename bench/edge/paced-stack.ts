import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { newApiKey, newNodeSecret } from '../../cli/keys.ts'
import { startLocalEdge } from '../../cli/local/edge.ts'
import { packageRoot } from '../../gpu-node/package-root.ts'
import type { PacedNodeMessage } from './paced-node.ts'
import { SCRATCH } from './scratch.ts'

export interface PacedStack {
  readonly edgeUrl: string
  /** Where the edge's objects store. */
  readonly stateDir: string
  /** A key with every kind of limit. */
  readonly key: string
  /** Another key with the same limits, except that it has the default limit of sockets. */
  readonly otherKey: string
  readonly nodeUrl: string
  readonly nodeSecret: string
  /** An OpenAI-compatible server on the same engine. */
  readonly openAiUrl: string
  /** Process ids of edge and gpu node. */
  readonly edgeProcesses: readonly number[]
  readonly nodeProcess: number
  readonly stepMs: number
  /** Time of the first step of the request with this seed, by `now()`; known when its first text has arrived. */
  firstStep(seed: number): number | undefined
  close(): Promise<void>
}

/** So large that no limit refuses a request, but the edge accounts for each of them. */
const LIMITS = {
  requests_per_minute: 1_000_000,
  tokens_per_minute: 1_000_000_000,
  concurrent_streams: 10_000,
  tokens_per_day: 1_000_000_000_000,
  tokens_per_month: 1_000_000_000_000,
}

export interface PacedNodeOptions {
  readonly edgeUrl: string
  readonly nodeSecret: string
  readonly stepMs: number
  readonly dialIn?: boolean
}

/** Starts a paced gpu node in a process of its own, which sends {@link PacedNodeMessage}s. */
export function spawnPacedNode({ edgeUrl, nodeSecret, stepMs, dialIn }: PacedNodeOptions): ChildProcess {
  const settings = { NODE_SECRET: nodeSecret, EDGE_URL: edgeUrl, STEP_MS: String(stepMs) }
  return spawn(process.execPath, [join(packageRoot, 'dist/paced-node.js')], {
    env: { ...process.env, ...settings, ...(dialIn && { DIAL_IN: '1' }) },
    // Output is ignored: the node logs every request.
    stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
  })
}

/** Starts the edge in workerd and a paced gpu node, in separate processes. */
export async function startPacedStack(stepMs: number, scratch = SCRATCH): Promise<PacedStack> {
  const nodeSecret = newNodeSecret()
  const { key, record } = newApiKey('bench', LIMITS.requests_per_minute)
  const other = newApiKey('other', LIMITS.requests_per_minute)
  const apiKeys = [
    { ...record, limits: LIMITS },
    { ...other.record, limits: { ...LIMITS, concurrent_streams: undefined } },
  ]
  const stateDir = await mkdtemp(join(scratch, 'apar-bench-'))
  const edge = await startLocalEdge({ host: '127.0.0.1', port: 0, apiKeys, nodeSecret, stateDir })
  const child = spawnPacedNode({ edgeUrl: edge.url, nodeSecret, stepMs })
  const exited = once(child, 'exit')
  const firstSteps = new Map<number, number>()
  const ready = new Promise<PacedNodeMessage & { type: 'ready' }>((resolve, reject) => {
    child.on('message', (message: PacedNodeMessage) => {
      if (message.type === 'ready') resolve(message)
      else firstSteps.set(message.seed, message.first)
    })
    void exited.then(() => reject(new Error('the paced gpu node ended')))
  })
  const close = async () => {
    child.kill('SIGKILL')
    await exited
    await edge.close()
    await rm(stateDir, { recursive: true, force: true })
  }
  try {
    const { url, openAiUrl } = await ready
    return {
      edgeUrl: edge.url,
      stateDir,
      key,
      otherKey: other.key,
      nodeUrl: url,
      nodeSecret,
      openAiUrl,
      edgeProcesses: edge.processes,
      nodeProcess: child.pid ?? 0,
      stepMs,
      firstStep: (seed) => firstSteps.get(seed),
      close,
    }
  } catch (error) {
    await close()
    throw error
  }
}
