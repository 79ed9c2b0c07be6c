import { z } from 'zod'
import { aparUsage, count, time } from './completions.ts'
import { aparTrace } from './trace.ts'

const Part = z.strictObject({
  type: z.literal('output_text'),
  text: z.string(),
  annotations: z.array(z.unknown()).max(0),
  logprobs: z.array(z.unknown()).max(0),
})

const Status = z.enum(['queued', 'in_progress', 'completed', 'incomplete', 'failed', 'cancelled'])

const Message = z.looseObject({
  type: z.literal('message'),
  id: z.string(),
  status: Status,
  role: z.literal('assistant'),
  content: z.array(Part),
})

const FunctionCall = z.strictObject({
  type: z.literal('function_call'),
  id: z.string(),
  call_id: z.string(),
  name: z.string(),
  arguments: z.string(),
  status: Status,
})

const ReasoningText = z.strictObject({ type: z.literal('reasoning_text'), text: z.string() })
const SummaryText = z.strictObject({ type: z.literal('summary_text'), text: z.string() })
/** All of the reasoning: in `summary` if the request asks for one, else in `content`. */
const Reasoning = z.strictObject({
  type: z.literal('reasoning'),
  id: z.string(),
  summary: z.array(SummaryText),
  content: z.array(ReasoningText).optional(),
  encrypted_content: z.null(),
  status: Status,
})

const Item = z.discriminatedUnion('type', [Message, Reasoning, FunctionCall])

const Usage = z.strictObject({
  input_tokens: count,
  input_tokens_details: z.looseObject({ cached_tokens: count }),
  output_tokens: count,
  output_tokens_details: z.looseObject({ reasoning_tokens: count }),
  total_tokens: count,
  apar: aparUsage,
})

/** Other members repeat the request, as OpenAI's do. */
export const ResponseObject = z.looseObject({
  id: z.string(),
  object: z.literal('response'),
  created_at: time,
  status: Status,
  error: z.strictObject({ code: z.string(), message: z.string() }).nullable(),
  incomplete_details: z.strictObject({ reason: z.literal('max_output_tokens') }).nullable(),
  model: z.string(),
  output: z.array(Item),
  usage: Usage.nullable(),
  apar: aparTrace,
})

export const DeletedResponse = z.strictObject({
  id: z.string(),
  object: z.literal('response'),
  deleted: z.literal(true),
})

/** Messages, calls and their outputs, as they were sent. */
export const InputItems = z.strictObject({
  object: z.literal('list'),
  data: z.array(z.looseObject({ id: z.string(), type: z.string() })),
  first_id: z.string().nullable(),
  last_id: z.string().nullable(),
  has_more: z.boolean(),
})

const sequence_number = count
const ofCall = { item_id: z.string(), output_index: count, sequence_number }
const place = { ...ofCall, content_index: count }
const ofSummary = { ...ofCall, summary_index: count }

/** The data of an event; its `type` is also the event's name. */
export const ResponseEvent = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('error'), code: z.string(), message: z.string(), param: z.null() }),
  z.strictObject({
    type: z.enum([
      'response.created',
      'response.queued',
      'response.in_progress',
      'response.completed',
      'response.incomplete',
      'response.failed',
      'response.cancelled',
    ]),
    sequence_number,
    response: ResponseObject,
  }),
  z.strictObject({
    type: z.enum(['response.output_item.added', 'response.output_item.done']),
    sequence_number,
    output_index: count,
    item: Item,
  }),
  z.strictObject({
    type: z.enum(['response.content_part.added', 'response.content_part.done']),
    ...place,
    part: z.discriminatedUnion('type', [Part, ReasoningText]),
  }),
  z.strictObject({
    type: z.enum(['response.reasoning_summary_part.added', 'response.reasoning_summary_part.done']),
    ...ofSummary,
    part: SummaryText,
  }),
  z.strictObject({
    type: z.literal('response.reasoning_summary_text.delta'),
    ...ofSummary,
    delta: z.string(),
  }),
  z.strictObject({ type: z.literal('response.reasoning_summary_text.done'), ...ofSummary, text: z.string() }),
  z.strictObject({ type: z.literal('response.reasoning_text.delta'), ...place, delta: z.string() }),
  z.strictObject({ type: z.literal('response.reasoning_text.done'), ...place, text: z.string() }),
  z.strictObject({
    type: z.literal('response.output_text.delta'),
    ...place,
    delta: z.string(),
    logprobs: z.array(z.unknown()),
  }),
  z.strictObject({
    type: z.literal('response.output_text.done'),
    ...place,
    text: z.string(),
    logprobs: z.array(z.unknown()),
  }),
  z.strictObject({
    type: z.literal('response.function_call_arguments.delta'),
    ...ofCall,
    delta: z.string(),
  }),
  z.strictObject({
    type: z.literal('response.function_call_arguments.done'),
    ...ofCall,
    name: z.string(),
    arguments: z.string(),
  }),
])
