import { EventQueue } from '../../../shared/event-queue.ts'
import { errorEvent, isTerminal, type StreamEvent } from '../../../shared/protocol/events.ts'
import type { CallContext } from '../../../shared/protocol/node.ts'
import type { GenerateRequest } from '../../../shared/protocol/request.ts'
import { StreamLog } from '../../../shared/protocol/stream-log.ts'
import type { Env } from '../../env.ts'
import { logTrouble } from '../../log.ts'
import { nodesOf } from '../../nodes/fleet-nodes.ts'
import { Upstream } from '../../nodes/upstream.ts'

/** How long a cancelled stream may take to say what it used. */
const LAST_WORD_MS = 5_000

export interface GenerateOptions {
  readonly callContext?: CallContext | undefined
  /** Aborting it cancels the stream upstream and ends the events, as does leaving the loop early. */
  readonly signal: AbortSignal
  /** Sees every event, also those that come between a cancel and the end. */
  readonly observe: (event: StreamEvent) => void
  /** Sees to work that outlasts the call. */
  readonly finish: (work: Promise<void>) => void
}

/**
 * The events of one stream that ends with the call it belongs to. Nobody can come back for it, so the worker itself
 * reads it from the gpu node, and no StreamSession is made (docs/adr/0021).
 */
export async function* generate(
  env: Env,
  request: GenerateRequest,
  { callContext, signal, observe, finish }: GenerateOptions,
): AsyncGenerator<StreamEvent, void> {
  // Named as those of the sessions are; no session will ever know it.
  const stream = env.STREAM_SESSION.newUniqueId().toString()
  const log = new StreamLog()
  const events = new EventQueue<StreamEvent>()
  const onAbort = () => events.end()
  let reportEnd = () => {}
  const ended = new Promise<void>((resolve) => {
    reportEnd = resolve
  })
  let observed = 0
  const onGrown = () => {
    for (const event of log.since(observed - 1)) {
      observe(event)
      events.push(event)
    }
    observed = log.nextSeq
    if (log.ended) reportEnd()
  }
  const reportError = (why: unknown) => logTrouble(env, { stream, request_id: callContext?.request_id }, why)
  const upstream = new Upstream({
    ...{ stream, callContext, request, log, reportError },
    nodes: nodesOf(env, finish),
    onNode: () => {},
    onBatch: onGrown,
    onLost: (error) => {
      if (error.code === 'internal_error') reportError(error.cause ?? error)
      log.append({ rows: [], events: [errorEvent(error, log.nextSeq)] })
      onGrown()
    },
  })
  signal.addEventListener('abort', onAbort)
  // It may have come before the listener.
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
      const late = setTimeout(reportEnd, LAST_WORD_MS)
      await ended
      clearTimeout(late)
    }
    upstream.close()
  }
}
