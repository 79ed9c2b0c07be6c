import { z } from 'zod'
import { aparUsage, count } from './completions.ts'
import { messagesErrorSchema } from './errors.ts'
import { aparTrace } from './trace.ts'

const TextBlock = z.strictObject({ type: z.literal('text'), text: z.string(), citations: z.null() })

/** The signature is no proof of anything; it is sent back as it is. */
const Thinking = z.strictObject({ type: z.literal('thinking'), thinking: z.string(), signature: z.string() })

const ToolUse = z.strictObject({
  type: z.literal('tool_use'),
  id: z.string(),
  name: z.string(),
  input: z.record(z.string(), z.unknown()),
  caller: z.strictObject({ type: z.literal('direct') }),
})
const Block = z.discriminatedUnion('type', [TextBlock, Thinking, ToolUse])

const Usage = z.strictObject({
  input_tokens: count,
  output_tokens: count,
  cache_creation_input_tokens: count.optional(),
  cache_read_input_tokens: count.optional(),
  output_tokens_details: z.strictObject({ thinking_tokens: count }).optional(),
  apar: aparUsage,
})

const end = {
  stop_reason: z.enum(['end_turn', 'max_tokens', 'stop_sequence', 'tool_use']).nullable(),
  stop_sequence: z.string().nullable(),
}

export const Message = z.strictObject({
  id: z.string(),
  type: z.literal('message'),
  role: z.literal('assistant'),
  model: z.string(),
  content: z.array(Block),
  ...end,
  usage: Usage,
  apar: aparTrace,
})

/** The data of an event; its `type` is also the event's name. */
export const MessageEvent = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('message_start'), message: Message }),
  z.strictObject({ type: z.literal('content_block_start'), index: count, content_block: Block }),
  z.strictObject({
    type: z.literal('content_block_delta'),
    index: count,
    delta: z.discriminatedUnion('type', [
      z.strictObject({ type: z.literal('text_delta'), text: z.string() }),
      z.strictObject({ type: z.literal('thinking_delta'), thinking: z.string() }),
      z.strictObject({ type: z.literal('signature_delta'), signature: z.string() }),
      z.strictObject({ type: z.literal('input_json_delta'), partial_json: z.string() }),
    ]),
  }),
  z.strictObject({ type: z.literal('content_block_stop'), index: count }),
  z.strictObject({
    type: z.literal('message_delta'),
    delta: z.strictObject(end),
    usage: Usage,
    apar: aparTrace,
  }),
  z.strictObject({ type: z.literal('message_stop') }),
  messagesErrorSchema,
])
