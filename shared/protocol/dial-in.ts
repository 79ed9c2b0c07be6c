import { z } from 'zod'
import { Heartbeat, Lease } from './fleet.ts'

/**
 * The one socket of a gpu node that has dialled in: `GET /internal/v1/nodes/:id/socket`, with the node secret as
 * bearer token. It carries one channel per stream. A channel carries the same frames as a stream's own socket
 * (`node.ts`), as text that is passed on unparsed.
 */

/** Longest message of a node, in UTF-16 code units. Nodes start a new one long before. */
export const MAX_MESSAGE_CHARS = 8 * 1024 * 1024

/** Channel number: counts up on each socket and is never reused. */
const channel = z.int().min(0)

export const ToDialledInNode = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('open'), channel }),
  /** `text`: a NodeFrame. */
  z.strictObject({ type: z.literal('frame'), channel, text: z.string() }),
  z.strictObject({ type: z.literal('close'), channel }),
  /** The answer to every heartbeat. */
  Lease.extend({ type: z.literal('lease') }).strict(),
])
export type ToDialledInNode = z.infer<typeof ToDialledInNode>

/** Has no `url`: the edge does not dial this node. */
const DialInHeartbeat = Heartbeat.omit({ url: true })

export const FromDialledInNode = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('heartbeat'), heartbeat: DialInHeartbeat }),
  /** Output of one engine step, in order. Each entry is a NodeBatch as text, or the close code of its channel. */
  z.strictObject({
    type: z.literal('step'),
    frames: z.array(z.tuple([channel, z.union([z.string(), z.int()])])).min(1),
  }),
])
export type FromDialledInNode = z.infer<typeof FromDialledInNode>
