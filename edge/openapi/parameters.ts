import { z } from 'zod'
import { ApiKeyRecord } from '../../shared/api-keys.ts'
import { FeedbackId } from '../../shared/feedback.ts'

export interface Parameter {
  readonly name: string
  readonly in: 'path' | 'query' | 'header'
  readonly description?: string
  readonly required?: boolean
  readonly schema: z.ZodType
}

const day = z.iso.date()

export const DAYS: readonly Parameter[] = [
  { name: 'first', in: 'query', description: 'UTC; default: the first day of this month', schema: day },
  { name: 'last', in: 'query', description: 'UTC; default: today', schema: day },
]

export const MODEL_ID: Parameter = pathOf('the id of a model', z.string().min(1).max(256))
export const MODEL_NAME: Parameter = {
  name: 'model',
  in: 'query',
  description: 'default: the only one',
  schema: z.string().min(1).max(256),
}
export const KEY_ID: Parameter = pathOf('the id of a key', ApiKeyRecord.shape.id)
export const RESPONSE_ID: Parameter = pathOf('the id of a response', z.string().min(1).max(192))
export const STREAM_ID: Parameter = pathOf(
  'the part before the dot in the `id:` of the chunks',
  z.string().regex(/^[0-9a-f]{64}$/),
)

export const ANTHROPIC_VERSION: Parameter = {
  name: 'anthropic-version',
  in: 'header',
  description: "any value asks for Anthropic's form",
  schema: z.string(),
}

/** Of `/v1/models`; they mean something with `anthropic-version` only. */
export const MODEL_PAGE: readonly Parameter[] = [
  {
    name: 'limit',
    in: 'query',
    description: 'with anthropic-version; default 20',
    schema: z.int().min(1).max(1000),
  },
  { name: 'after_id', in: 'query', description: 'with anthropic-version', schema: z.string().max(256) },
  { name: 'before_id', in: 'query', description: 'with anthropic-version', schema: z.string().max(256) },
]

export const KEY_PAGE: readonly Parameter[] = [
  { name: 'after', in: 'query', description: 'id of a key', schema: z.string().max(64) },
  { name: 'limit', in: 'query', description: 'default 100', schema: z.int().min(1).max(1000) },
]

/** Of `GET /v1/responses/{id}`. */
export const RESPONSE_STREAM: readonly Parameter[] = [
  { name: 'stream', in: 'query', description: 'default false', schema: z.boolean() },
  {
    name: 'starting_after',
    in: 'query',
    description: 'with stream=true: the sequence_number of the last event that the client has',
    schema: z.int().min(-1),
  },
]
/** Of the items of a response's input. */
export const ITEM_PAGE: readonly Parameter[] = [
  { name: 'limit', in: 'query', description: 'default 20', schema: z.int().min(1).max(100) },
  {
    name: 'order',
    in: 'query',
    description: 'default desc: the last one first',
    schema: z.enum(['asc', 'desc']),
  },
  { name: 'after', in: 'query', description: 'id of an item', schema: z.string().max(192) },
]

export const FEEDBACK_ID: Parameter = pathOf('the id of the vote', FeedbackId)
export const FEEDBACK_AFTER: Parameter = {
  name: 'after',
  in: 'query',
  description: '`number` of the last line of an earlier export',
  schema: z.int().min(0),
}
export const FEEDBACK_OWNER: Parameter = {
  name: 'owner',
  in: 'query',
  required: true,
  description: '`key:<id>` or `jwt:<subject>`',
  schema: z.string().min(1).max(512),
}

export const LAST_EVENT_ID: Parameter = {
  name: 'last-event-id',
  in: 'header',
  description: 'resumes a call with apar.resumable after this event',
  schema: z.string(),
}

/** Of `GET /v1/stream`. */
export const STREAM_QUERY: readonly Parameter[] = [
  { name: 'stream', in: 'query', description: 'resumes this stream', schema: z.string().max(64) },
  { name: 'after', in: 'query', description: 'the last event that the client has', schema: z.int().min(-1) },
  { name: 'flow', in: 'query', description: 'the client acknowledges events', schema: z.literal('ack') },
]

function pathOf(description: string, schema: z.ZodType): Parameter {
  return { name: 'id', in: 'path', required: true, description, schema }
}
