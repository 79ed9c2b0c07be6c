import { z } from 'zod'

export const ServedModel = z.object({
  id: z.string().min(1).max(256),
  /** Unix time in seconds at which the checkpoint was made. */
  created: z.int(),
  /** Longest prompt plus answer, in tokens of one branch's path. */
  context_tokens: z.int().min(1),
})
export type ServedModel = z.infer<typeof ServedModel>

/** A gpu node's sign of life: `PUT /internal/v1/nodes/:id`, with the node secret as bearer token. */
export const Heartbeat = z.strictObject({
  /** Where the edge reaches the node: `ws://host:port` or `wss://…`. Absent for one that has dialled in. */
  url: z.url({ protocol: /^wss?$/ }).optional(),
  models: z.array(ServedModel).min(1).max(64),
  /** Takes no new work: it is about to go. */
  draining: z.boolean().optional(),
  capacity: z.object({ branches: z.int().min(1), blocks: z.int().min(1) }),
  load: z.object({ running: z.int().min(0), waiting: z.int().min(0), free_blocks: z.int().min(0) }),
})
export type Heartbeat = z.infer<typeof Heartbeat>

/** The edge's answer: beat again after `heartbeat_ms`; without a beat the node is forgotten after `lease_ms`. */
export const Lease = z.object({ heartbeat_ms: z.int().min(1), lease_ms: z.int().min(1) })
export type Lease = z.infer<typeof Lease>
