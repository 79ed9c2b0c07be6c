import { z } from 'zod'
import { ApiKeyRecord, Limits } from '../../../shared/api-keys.ts'
import { Heartbeat } from '../../../shared/protocol/fleet.ts'
import { count, time } from './completions.ts'

const day = z.iso.date()

export const UsageReport = z.strictObject({
  object: z.literal('usage'),
  limits: Limits,
  tokens_today: count,
  tokens_this_month: count,
  reserved_tokens: count,
  open_streams: count,
  days: z.array(
    z.strictObject({
      day,
      requests: count,
      prompt_tokens: count,
      cached_prompt_tokens: count,
      completion_tokens: count,
    }),
  ),
})

export const Ticket = z.strictObject({ object: z.literal('ticket'), ticket: z.string(), expires_at: time })

export const FeedbackReceipt = z.strictObject({
  object: z.literal('feedback'),
  id: z.string(),
  vote: z.string(),
  kept_days: z.number(),
})

export const KeyInfo = ApiKeyRecord.omit({ salt: true, hash: true, previous: true })
/** Only the answers to creating and rotating a key contain it. */
export const NewKey = KeyInfo.extend({ key: z.string() })

export const Keys = z.strictObject({
  object: z.literal('list'),
  data: z.array(KeyInfo),
  has_more: z.boolean(),
})

const { models, capacity, load } = Heartbeat.shape

const Node = z.strictObject({
  id: z.string(),
  object: z.literal('node'),
  url: z.string().nullable(),
  draining: z.boolean(),
  models: z.array(models.element),
  capacity: capacity.nullable(),
  load: load.nullable(),
  lease_seconds: count,
  suspended: z.strictObject({ until: time, times: count, code: z.string(), reason: z.string() }).nullable(),
})

export const Nodes = z.strictObject({
  object: z.literal('list'),
  data: z.array(Node),
  differing_models: z.array(
    z.strictObject({ id: z.string(), fingerprints: z.array(z.string()), differs: z.array(z.string()) }),
  ),
})
