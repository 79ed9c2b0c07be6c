import { newApiKey, newNodeSecret } from '../../cli/keys.ts'
import { startLocalEdge } from '../../cli/local/edge.ts'
import { type GpuNode, type GpuNodeOptions, startGpuNode } from '../../gpu-node/main.ts'
import { packageRoot } from '../../gpu-node/package-root.ts'
import { silent } from '../support/logs.ts'

export interface Stack {
  /** `http://host:port` of the edge. */
  readonly url: string
  readonly key: string
  readonly node: GpuNode
  close(): Promise<void>
}

/** Starts all of apar on this machine: workerd, a gpu node in this process, the engine, the demo model. */
export async function startStack(
  options: Partial<GpuNodeOptions> & { requestsPerMinute?: number; settings?: Record<string, string> } = {},
): Promise<Stack> {
  const { requestsPerMinute = 100_000, settings = {}, ...nodeOptions } = options
  const nodeSecret = newNodeSecret()
  const { key, record } = newApiKey('test', requestsPerMinute)
  const edge = await startLocalEdge({ host: '127.0.0.1', port: 0, apiKeys: [record], nodeSecret, settings })
  try {
    const node = await startGpuNode({
      modelDir: `${packageRoot}/models/demo`,
      threads: 1,
      nodeSecret,
      edgeUrl: edge.url,
      log: silent,
      ...nodeOptions,
    })
    await node.registered
    return {
      url: edge.url,
      key,
      node,
      close: async () => {
        await node.close()
        await edge.close()
      },
    }
  } catch (error) {
    await edge.close()
    throw error
  }
}
