import { newApiKey, newNodeSecret } from '../../keys.ts'
import { claimLocalEdge } from '../../local/edge.ts'
import { spawnGpuNode } from '../../local/gpu-node-process.ts'
import { resolveOrPull } from '../../models/pull.ts'
import { adapterOf, servedName } from '../../models/served-name.ts'
import type { MetricsSource } from './load/node-metrics.ts'

const MOST_REQUESTS_PER_MINUTE = 1_000_000
const MOST_SOCKETS = 100_000

export interface LocalServer {
  readonly url: string
  readonly key: string
  readonly model: string
  readonly metrics: MetricsSource
  /** Where the edge reaches the gpu node. */
  readonly node: { readonly url: string; readonly secret: string }
  close(): Promise<void>
}

export interface LocalServerOptions {
  readonly model: string
  readonly adapter?: string | undefined
  readonly medusa?: string | undefined
  /** Requests that the node must be able to hold. */
  readonly requests: number
  /** Further arguments of `apar gpu-node`. */
  readonly nodeArguments: readonly string[]
  /** The command `apar`; default: the program that runs. */
  readonly script?: string | undefined
}

/**
 * Edge and gpu node as `apar serve` starts them, in processes of their own: what is measured does not share this program's
 * thread. @throws UserError
 */
export async function startLocalServer(options: LocalServerOptions): Promise<LocalServer> {
  const { requests, nodeArguments, script } = options
  const model = await resolveOrPull(options.model)
  const nodeSecret = newNodeSecret()
  const { key, record } = newApiKey('bench', MOST_REQUESTS_PER_MINUTE)
  const unlimited = { ...record, limits: { ...record.limits, concurrent_sockets: MOST_SOCKETS } }
  const claimed = await claimLocalEdge({ host: '127.0.0.1', port: 0, apiKeys: [unlimited], nodeSecret })
  const named = {
    '--drain-seconds': '0',
    '--model': model.path,
    '--adapter': adapterOf(model, options),
    '--medusa': options.medusa,
    '--name': servedName(model, options.adapter === undefined ? {} : { adapter: options.adapter }),
    '--max-requests': String(Math.max(256, requests)),
  }
  const args = Object.entries(named).flatMap(([option, value]) => (value ? [option, value] : []))
  // A line for each request would cost time, and hide what the bench says.
  const env = { LOG_LEVEL: process.env.LOG_LEVEL || 'warn' }
  const node = spawnGpuNode({ args: [...args, ...nodeArguments], nodeSecret, script, env })
  const close = async () => {
    await node.close()
    await edge?.close()
  }
  let edge: Awaited<ReturnType<typeof claimed.start>> | undefined
  try {
    edge = await claimed.start()
    node.edgeStarted(edge.url)
    const ready = await node.ready
    const metricsUrl = new URL('/metrics', ready.url.replace(/^ws/, 'http')).href
    // The node of this machine answers to the same secrets as any other.
    const secret = process.env.METRICS_SECRET || nodeSecret
    return {
      ...{ url: edge.url, key, model: ready.model, metrics: { url: metricsUrl, secret } },
      ...{ node: { url: ready.url, secret: nodeSecret }, close },
    }
  } catch (error) {
    await close()
    throw error
  }
}
