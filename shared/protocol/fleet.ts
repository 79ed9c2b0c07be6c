import { z } from 'zod'
import { MAX_FINGERPRINT_CHARS } from './fingerprint.ts'

export const ServedModel = z.object({
  id: z.string().min(1).max(256),
  /** Creation time of the checkpoint, Unix time in seconds. */
  created: z.int(),
  /** Context length in tokens: prompt plus answer along one branch's path. */
  context_tokens: z.int().min(1),
  /** As in the `accepted` event. Older nodes send none. */
  fingerprint: z.string().max(MAX_FINGERPRINT_CHARS).optional(),
})
export type ServedModel = z.infer<typeof ServedModel>

/** Sent by a gpu node to renew its lease: `PUT /internal/v1/nodes/:id`, with the node secret as bearer token. */
export const Heartbeat = z.strictObject({
  /** Where the edge connects to the node: `ws://host:port` or `wss://…`. Absent for a node that has dialled in. */
  url: z.url({ protocol: /^wss?$/ }).optional(),
  models: z.array(ServedModel).min(1).max(64),
  /** The node takes no new streams because it is shutting down. */
  draining: z.boolean().optional(),
  capacity: z.object({
    branches: z.int().min(1),
    blocks: z.int().min(1),
    /**
     * What the node knows of `start` (`node.ts`) beyond its first version: `tenant`, and of the request `stop_scope`,
     * `speculation`, `output_format`, `parallel_format`, `tools`, as `dry` those of DryFields and, as `prompt_options`, all of
     * PromptAndEnd. `tool_messages`: it knows calls of tools in messages. `separate_reasoning`: that field, and reasoning in
     * messages. `query`: it knows that frame. Older nodes refuse what they do not know.
     */
    start_fields: z.array(z.string().max(64)).max(64).optional(),
  }),
  load: z.object({ running: z.int().min(0), waiting: z.int().min(0), free_blocks: z.int().min(0) }),
})
export type Heartbeat = z.infer<typeof Heartbeat>

/**
 * The edge's answer: the next heartbeat is due after `heartbeat_ms`; without one the registration ends after
 * `lease_ms`.
 */
export const Lease = z.object({ heartbeat_ms: z.int().min(1), lease_ms: z.int().min(1) })
export type Lease = z.infer<typeof Lease>
