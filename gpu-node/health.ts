import type { Runner } from './requests/runner.ts'
import type { ServedStreams } from './requests/served-streams.ts'

export interface HealthSources {
  readonly runner: Pick<Runner, 'model' | 'checkpoint' | 'fingerprint' | 'engineInfo' | 'stats' | 'failure'>
  readonly streams: Pick<ServedStreams, 'draining'>
  /** False while the node is not registered with the edge that it was started for. */
  readonly registered: () => boolean
}

export interface Health {
  readonly healthy: boolean
  readonly body: object
}

/** Liveness: unhealthy means that the node must be restarted. */
export function health({ runner, streams }: HealthSources): Health {
  const { dtype, numBlocks, contextTokens } = runner.engineInfo
  const device = shortDevice(runner.engineInfo.device)
  const stats = runner.stats()
  const failed = runner.failure !== undefined
  const load = {
    running: stats.runningRequests,
    waiting: stats.waitingRequests,
    live_branches: stats.liveBranches,
    free_blocks: stats.freeBlocks,
  }
  const capacity = { blocks: numBlocks, context_tokens: contextTokens }
  const status = failed ? 'failed' : streams.draining ? 'draining' : 'ok'
  // Without a template the model completes plain prompts, and refuses chats.
  const chat = runner.checkpoint.text.chatTemplate !== undefined
  return { healthy: !failed, body: { status, model: runner.model, chat, device, dtype, capacity, load } }
}

/** Readiness: the node accepts new requests. It does not listen before its model is loaded. */
export function readiness({ runner, streams, registered }: HealthSources): Health {
  const reasons = [
    ...(runner.failure === undefined ? [] : ['engine_failed']),
    ...(streams.draining ? ['draining'] : []),
    ...(registered() ? [] : ['not_registered']),
  ]
  const healthy = reasons.length === 0
  const { fingerprint } = runner
  return { healthy, body: { status: healthy ? 'ready' : 'not_ready', reasons, fingerprint } }
}

/** The device without the reason in parentheses, which may contain a path and belongs in the node's log only. */
export function shortDevice(device: string): string {
  return device.replace(/ \(.*$/s, '')
}
