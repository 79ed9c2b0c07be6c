import { z } from 'zod'
import { Heartbeat, Lease } from './fleet.ts'

/**
 * The one socket of a gpu node that has dialled in: `GET /internal/v1/nodes/:id/socket`, with the node secret as bearer
 * token. It carries a channel for each stream, and on it the frames that a socket of its own would carry (`node.ts`), as
 * text that nobody in between looks into.
 */

/** Longest message of a node, in UTF-16 code units: one frame of a stream may be as long, its quotes escaped. */
export const MAX_MESSAGE_CHARS = 8 * 1024 * 1024

/** Counts up on each socket; never used again. */
const channel = z.int().min(0)

export const ToDialledInNode = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('open'), channel }),
  /** `text`: a NodeFrame. */
  z.strictObject({ type: z.literal('frame'), channel, text: z.string() }),
  z.strictObject({ type: z.literal('close'), channel }),
  /** The answer to every heart-beat. */
  Lease.extend({ type: z.literal('lease') }).strict(),
])
export type ToDialledInNode = z.infer<typeof ToDialledInNode>

/** Nothing is dialled, so there is no address. */
const Beat = Heartbeat.omit({ url: true })

export const FromDialledInNode = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('heartbeat'), heartbeat: Beat }),
  /** What one step of the engine gave, in order: a NodeBatch as text, or the code with which the channel is closed. */
  z.strictObject({
    type: z.literal('step'),
    frames: z.array(z.tuple([channel, z.union([z.string(), z.int()])])).min(1),
  }),
])
export type FromDialledInNode = z.infer<typeof FromDialledInNode>
