import type { Runner } from './requests/runner.ts'
import type { ServedStreams } from './requests/served-streams.ts'

export interface Inspected {
  readonly runner: Pick<Runner, 'model' | 'engineInfo' | 'stats' | 'failure'>
  readonly streams: Pick<ServedStreams, 'draining'>
  /** False while an edge that this node should be known to does not know it. */
  readonly registered: () => boolean
}

export interface Health {
  readonly healthy: boolean
  readonly body: object
}

/** Liveness: unhealthy means that only a restart helps. */
export function health({ runner, streams }: Inspected): Health {
  const { dtype, numBlocks } = runner.engineInfo
  const device = shortDevice(runner.engineInfo.device)
  const stats = runner.stats()
  const failed = runner.failure !== undefined
  const load = {
    running: stats.runningRequests,
    waiting: stats.waitingRequests,
    live_branches: stats.liveBranches,
    free_blocks: stats.freeBlocks,
  }
  const capacity = { blocks: numBlocks }
  const status = failed ? 'failed' : streams.draining ? 'draining' : 'ok'
  return { healthy: !failed, body: { status, model: runner.model, device, dtype, capacity, load } }
}

/** Readiness: new requests are welcome. A node listens only once its model is loaded. */
export function readiness({ runner, streams, registered }: Inspected): Health {
  const reasons = [
    ...(runner.failure === undefined ? [] : ['engine_failed']),
    ...(streams.draining ? ['draining'] : []),
    ...(registered() ? [] : ['not_registered']),
  ]
  const healthy = reasons.length === 0
  return { healthy, body: { status: healthy ? 'ready' : 'not_ready', reasons } }
}

/** Without the reason for the choice, which may name a path: that is for the node's own log. */
export function shortDevice(device: string): string {
  return device.replace(/ \(.*$/s, '')
}
