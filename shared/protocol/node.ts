import { z } from 'zod'
import { Priority, Weight } from '../api-keys.ts'
import { branch, StreamEvent, seq } from './events.ts'
import { GenerateRequest, MAX_NEW_TOKENS } from './request.ts'
import { TokenQuery } from './token-query.ts'

/** Name of a stream, unique at its gpu node. */
const stream = z.string().min(1).max(64)

/**
 * Longest frame that a gpu node may send for a stream, in UTF-16 code units. Nodes publish much earlier, so only one
 * delivery of the engine with very long texts comes near it.
 */
export const MAX_NODE_FRAME_CHARS = 8 * 1024 * 1024

/** Numbers per row of {@link NodeBatch}. */
export const ROW_WIDTH = 4
/**
 * The rows that say which tokens a branch has: a = a token; a = a child, which begins behind the branch's last token;
 * b = 1 + the token that ended the branch, or 0. A node that knows `return_prompt_token_ids` has that token.
 */
export const ROW_KIND = { TOKEN: 1, FORK: 2, BRANCH_END: 3 } as const

/**
 * What one delivery of engine events added to a stream; the unit of a stream's log. `events` is what clients
 * receive, never empty. `rows` are the engine events that produced them, flat, ROW_WIDTH numbers each: [kind,
 * branch, a, b] (gpu-node/engine/engine-events.ts). From all rows of a stream another gpu node can continue it;
 * the edge stores them, and reads no others than those of ROW_KIND, for clients that want the ids of the tokens.
 */
export const NodeBatch = z.strictObject({ rows: z.array(z.int()), events: z.array(StreamEvent).min(1) })
export type NodeBatch = z.infer<typeof NodeBatch>

/** The API call that a stream belongs to, for logs and traces; it does not affect the answer. */
export const CallContext = z.strictObject({
  /** The edge's `x-request-id`. */
  request_id: z.string().max(64),
  /** The client's span (W3C Trace Context): the parent of the gpu node's. */
  traceparent: z.string().max(64).optional(),
  tracestate: z.string().max(512).optional(),
})
export type CallContext = z.infer<typeof CallContext>

/** On whose behalf a stream runs. It decides when the stream is computed, never what it answers. */
export const Tenant = z.strictObject({
  /** Opaque, the same for all streams of a key. */
  id: z.string().min(1).max(64),
  weight: Weight.default(1),
  priority: Priority.default(0),
})
export type Tenant = z.infer<typeof Tenant>

/**
 * The own tokens of a branch as the engine's rows report them: [Fork] in a parent, [Child] first in a child. The
 * children of a branch are in the order of its [Fork]s.
 */
export const ForcedBranch = z.strictObject({
  /** Index of a branch before it; -1 for the root, which comes first. */
  parent: z.int().min(-1),
  tokens: z.array(z.int().min(0)).max(MAX_NEW_TOKENS),
})
export type ForcedBranch = z.infer<typeof ForcedBranch>

/** The id of the call's trace; undefined when the client sent no `traceparent`. */
export function traceIdOf(callContext: CallContext | undefined): string | undefined {
  return callContext?.traceparent?.split('-')[1]
}

/**
 * What the edge sends to a gpu node on `/v1/requests`, one socket per stream. The sender is a StreamSession, or
 * the Worker itself for an HTTP call that cannot be resumed (docs/adr/0021). The first frame is `start` or
 * `attach`, and the node answers with NodeBatch frames; or it is the only one, a `query`.
 */
export const NodeFrame = z.discriminatedUnion('type', [
  /**
   * `log`: the stream's batches from earlier gpu nodes; numbering continues after it. `origin`: the wire name of
   * the call context. `tenant`: only for nodes whose heartbeat says that they take it. `forced`: what the answer is,
   * whatever the model says (docs/adr/0071). The edge never sends it, and only nodes with --allow-replay take it.
   */
  z.strictObject({
    type: z.literal('start'),
    stream,
    request: GenerateRequest,
    log: z.array(NodeBatch).optional(),
    origin: CallContext.optional(),
    tenant: Tenant.optional(),
    forced: z.array(ForcedBranch).min(1).optional(),
  }),
  /** Continues reading a stream of this node after event `after` (-1: from the first) when the socket was lost. */
  z.strictObject({ type: z.literal('attach'), stream, after: z.int().min(-1) }),
  /** Instead of a stream: the node answers with one TokenAnswer. Only for nodes whose heartbeat says that they take it. */
  z.strictObject({ type: z.literal('query'), query: TokenQuery, tenant: Tenant.optional() }),
  z.strictObject({ type: z.literal('cancel') }),
  z.strictObject({ type: z.literal('cancel_branch'), branch }),
  /** The client has received all events up to `seq`. After the last event's number the node may delete the stream. */
  z.strictObject({ type: z.literal('ack'), seq }),
])
export type NodeFrame = z.infer<typeof NodeFrame>
