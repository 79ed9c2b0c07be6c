import { EventQueue } from '../../../shared/event-queue.ts'
import { errorEvent, isTerminal, type StreamEvent } from '../../../shared/protocol/events.ts'
import type { CallContext } from '../../../shared/protocol/node.ts'
import type { GenerateRequest } from '../../../shared/protocol/request.ts'
import { type EventWithRows, StreamLog } from '../../../shared/stream-log.ts'
import type { Env } from '../../env.ts'
import type { Principal } from '../../keys/principal.ts'
import { tenantOf } from '../../keys/tenant.ts'
import { isForOperator, logTrouble } from '../../log.ts'
import { nodesOf } from '../../nodes/fleet-nodes.ts'
import { Upstream } from '../upstream.ts'

/** How long to wait for the usage of a cancelled stream, which its `done` event has. */
const USAGE_WAIT_MS = 5_000

export interface GenerateOptions {
  readonly principal?: Principal | undefined
  readonly callContext?: CallContext | undefined
  /** As of `nodesOf`. */
  readonly affinity?: string | undefined
  /** Aborting it cancels the stream at the gpu node and ends the events. Leaving the generator early does the same. */
  readonly signal: AbortSignal
  /** Called for every event, also for those that come after a cancel. */
  readonly observe: (event: StreamEvent) => void
  /** As `ExecutionContext.waitUntil`: for work that lasts longer than the call. */
  readonly waitUntil: (work: Promise<void>) => void
}

/**
 * The events of one stream that ends with its call. It cannot be resumed, so the worker itself reads it from the gpu
 * node, without a StreamSession (docs/adr/0021). Those of a request that wants the ids of its tokens have their rows.
 */
export async function* generate(
  env: Env,
  request: GenerateRequest,
  { principal, callContext, affinity, signal, observe, waitUntil }: GenerateOptions,
): AsyncGenerator<EventWithRows, void> {
  // A name of the same form as a session's; no session with this id is ever created.
  const stream = env.STREAM_SESSION.newUniqueId().toString()
  const log = new StreamLog()
  const events = new EventQueue<EventWithRows>()
  const onAbort = () => events.end()
  let reportEnd = () => {}
  const ended = new Promise<void>((resolve) => {
    reportEnd = resolve
  })
  let observed = 0
  const onBatch = () => {
    const read = request.return_prompt_token_ids ? log.withRowsSince(observed - 1) : log.since(observed - 1)
    for (const event of read) {
      observe(event)
      events.push(event)
    }
    observed = log.nextSeq
    if (log.ended) reportEnd()
  }
  const reportError = (why: unknown) => logTrouble(env, { stream, request_id: callContext?.request_id }, why)
  const upstream = new Upstream({
    ...{ stream, callContext, request, log, reportError },
    tenant: principal && tenantOf(principal),
    nodes: nodesOf(env, waitUntil, affinity),
    onNode: () => {},
    onBatch,
    onLost: (error) => {
      if (isForOperator(error)) reportError(error.cause ?? error)
      log.append({ rows: [], events: [errorEvent(error, log.nextSeq)] })
      onBatch()
    },
  })
  signal.addEventListener('abort', onAbort)
  // The signal may have aborted before the listener was added.
  if (signal.aborted) onAbort()
  void upstream.run()
  try {
    for (;;) {
      const { value: event } = await events.next()
      if (!event || signal.aborted) return
      yield event
      if (isTerminal(event)) return
    }
  } finally {
    signal.removeEventListener('abort', onAbort)
    if (!log.ended) {
      upstream.cancel({ type: 'cancel' })
      const late = setTimeout(reportEnd, USAGE_WAIT_MS)
      await ended
      clearTimeout(late)
    }
    upstream.close()
  }
}
