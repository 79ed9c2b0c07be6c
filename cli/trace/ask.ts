import { WebSocket } from 'ws'
import { openStream } from '../../client/index.ts'
import type { Runner } from '../../gpu-node/requests/runner.ts'
import { EventQueue } from '../../shared/event-queue.ts'
import { errorOf, type StreamEvent } from '../../shared/protocol/events.ts'
import type { ForcedBranch, NodeBatch } from '../../shared/protocol/node.ts'
import type { GenerateRequest } from '../../shared/protocol/request.ts'

/**
 * The events of a request, whose answer may be forced in an engine of this process. Throws an AparError from the loop when
 * it is refused or fails.
 */
export type Ask = (
  request: GenerateRequest,
  forced?: readonly ForcedBranch[] | undefined,
) => AsyncIterable<StreamEvent>

/** Asks an engine of this process. */
export function asksRunner(runner: Runner): Ask {
  return (request, forced) => {
    const events = new EventQueue<StreamEvent>()
    const publish = (batch: NodeBatch) => {
      for (const event of batch.events) {
        if (event.type === 'error') events.end(errorOf(event))
        else events.push(event)
        if (event.type === 'done') events.end()
      }
    }
    runner.start('trace', request, publish, { forced }).catch((error: Error) => events.end(error))
    return { [Symbol.asyncIterator]: () => ({ next: () => events.next() }) }
  }
}

/** Asks an edge. */
export function asksEdge(baseUrl: string, apiKey: string): Ask {
  return (request) => openStream({ baseUrl, apiKey, request, WebSocket })
}
