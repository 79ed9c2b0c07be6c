import { z } from 'zod'
import { AparError } from '../errors.ts'
import { branch, isTerminal, StreamEvent, seq } from './events.ts'
import { GenerateRequest } from './request.ts'

/** Name of a stream between edge and gpu node. */
const stream = z.string().min(1).max(64)

/** Numbers per row of {@link NodeBatch}. */
export const ROW_WIDTH = 4

/**
 * What one delivery of the engine did to a stream: the unit of a gpu node's log. `events` is what clients see, never
 * empty. `rows` is how it came about: the engine's events behind them, flat, ROW_WIDTH numbers each [kind, branch, a, b]
 * (gpu-node/engine/types.ts). From the rows of a stream so far another gpu node can go on with it; the edge keeps them
 * and does not look inside.
 */
export const NodeBatch = z.strictObject({ rows: z.array(z.int()), events: z.array(StreamEvent).min(1) })
export type NodeBatch = z.infer<typeof NodeBatch>

/** Whose call a stream belongs to, for logs and traces; the answer does not depend on it. */
export const Origin = z.strictObject({
  /** The edge's `x-request-id`. */
  request_id: z.string().max(64),
  /** The client's span (W3C Trace Context): the parent of the gpu node's. */
  traceparent: z.string().max(64).optional(),
  tracestate: z.string().max(512).optional(),
})
export type Origin = z.infer<typeof Origin>

/** Of the trace that a call belongs to; undefined when its client does not trace. */
export function traceIdOf(origin: Origin | undefined): string | undefined {
  return origin?.traceparent?.split('-')[1]
}

/**
 * What a StreamSession sends to a gpu node on `/v1/requests`: one socket per stream. The first frame is `start` or
 * `attach`; the node answers with NodeBatch frames.
 */
export const NodeFrame = z.discriminatedUnion('type', [
  /** `log`: what the stream's earlier gpu node made of it. The events go on with the next number. */
  z.strictObject({
    type: z.literal('start'),
    stream,
    request: GenerateRequest,
    log: z.array(NodeBatch).optional(),
    origin: Origin.optional(),
  }),
  /** Goes on with a stream of this node after event `after` (-1: from the first), for a session that lost its socket. */
  z.strictObject({ type: z.literal('attach'), stream, after: z.int().min(-1) }),
  z.strictObject({ type: z.literal('cancel') }),
  z.strictObject({ type: z.literal('cancel_branch'), branch }),
  /** Everything up to `seq` is safe with the client: with the last event's number the node may forget the stream. */
  z.strictObject({ type: z.literal('ack'), seq }),
])
export type NodeFrame = z.infer<typeof NodeFrame>

/** A stream's events and how they came about, in order and without gaps; at the gpu node as well as at the edge. */
export class StreamLog {
  readonly #events: StreamEvent[] = []
  readonly #batches: { rows: number[]; end: number }[] = []

  constructor(batches: readonly NodeBatch[] = []) {
    for (const batch of batches) this.append(batch)
  }

  /** The number of the next event. */
  get nextSeq(): number {
    return this.#events.length
  }

  get last(): StreamEvent | undefined {
    return this.#events.at(-1)
  }

  get ended(): boolean {
    return this.last !== undefined && isTerminal(this.last)
  }

  /** @throws AparError `invalid_request` when its events are not the next ones; nothing is appended then. */
  append({ rows, events }: NodeBatch): void {
    if (this.ended) throw outOfOrder('a batch after the last event')
    events.forEach((event, index) => {
      const next = this.nextSeq + index
      if (event.seq !== next) throw outOfOrder(`event ${event.seq} instead of ${next}`)
      if (isTerminal(event) && index < events.length - 1) throw outOfOrder('an event after the last')
    })
    this.#events.push(...events)
    this.#batches.push({ rows, end: this.nextSeq })
  }

  /** The events behind number `after`; -1 gives all. */
  since(after: number): readonly StreamEvent[] {
    return this.#events.slice(after + 1)
  }

  /** The same in batches; a batch that `after` cuts is given from there, with all its rows. */
  batchesSince(after: number): NodeBatch[] {
    const batches: NodeBatch[] = []
    let begin = 0
    for (const { rows, end } of this.#batches) {
      if (end > after + 1) batches.push({ rows, events: this.#events.slice(Math.max(begin, after + 1), end) })
      begin = end
    }
    return batches
  }
}

/** Whoever sent it is at fault: a gpu node, or an edge that moves a stream. */
function outOfOrder(what: string): AparError {
  return new AparError('invalid_request', `log: ${what}`, { param: 'log' })
}
