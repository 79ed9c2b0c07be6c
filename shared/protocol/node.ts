import { z } from 'zod'
import { branch, StreamEvent, seq } from './events.ts'
import { GenerateRequest } from './request.ts'

/** Name of a stream between edge and gpu node. */
const stream = z.string().min(1).max(64)

/** Numbers per row of {@link NodeBatch}. */
export const ROW_WIDTH = 4

/**
 * What one delivery of the engine did to a stream: the unit of a gpu node's log. `events` is what clients see, never
 * empty. `rows` is how it came about: the engine's events behind them, flat, ROW_WIDTH numbers each [kind, branch, a, b]
 * (gpu-node/engine/engine-events.ts). From the rows of a stream so far another gpu node can go on with it; the edge keeps them
 * and does not look inside.
 */
export const NodeBatch = z.strictObject({ rows: z.array(z.int()), events: z.array(StreamEvent).min(1) })
export type NodeBatch = z.infer<typeof NodeBatch>

/** Whose call a stream belongs to, for logs and traces; the answer does not depend on it. */
export const CallContext = z.strictObject({
  /** The edge's `x-request-id`. */
  request_id: z.string().max(64),
  /** The client's span (W3C Trace Context): the parent of the gpu node's. */
  traceparent: z.string().max(64).optional(),
  tracestate: z.string().max(512).optional(),
})
export type CallContext = z.infer<typeof CallContext>

/** Of the trace that a call belongs to; undefined when its client does not trace. */
export function traceIdOf(callContext: CallContext | undefined): string | undefined {
  return callContext?.traceparent?.split('-')[1]
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
    origin: CallContext.optional(),
  }),
  /** Goes on with a stream of this node after event `after` (-1: from the first), for a session that lost its socket. */
  z.strictObject({ type: z.literal('attach'), stream, after: z.int().min(-1) }),
  z.strictObject({ type: z.literal('cancel') }),
  z.strictObject({ type: z.literal('cancel_branch'), branch }),
  /** Everything up to `seq` is safe with the client: with the last event's number the node may forget the stream. */
  z.strictObject({ type: z.literal('ack'), seq }),
])
export type NodeFrame = z.infer<typeof NodeFrame>
