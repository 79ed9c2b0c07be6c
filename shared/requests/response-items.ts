import { z } from 'zod'
import { ignored } from './fields.ts'

const NOT_TEXT = 'images, audio and files are not supported: a content is text'

/** A client that sends an earlier answer back may include `annotations` and `logprobs`. */
const Part = z.discriminatedUnion(
  'type',
  [
    z.strictObject({
      type: z.enum(['input_text', 'output_text', 'text', 'summary_text', 'reasoning_text']),
      text: z.string(),
      prompt_cache_breakpoint: ignored,
      annotations: ignored,
      logprobs: ignored,
      parsed: ignored,
    }),
    z.strictObject({ type: z.literal('refusal'), refusal: z.string() }),
  ],
  NOT_TEXT,
)
const Content = z.union([z.string(), z.array(Part)], 'must be a string or a list of text parts')

/** What every item of an answer has. */
const OF_AN_ANSWER = { id: ignored, status: ignored, phase: ignored, created_by: ignored }

const Message = z.strictObject({
  type: z.literal('message', 'is no kind of item that is supported').optional(),
  role: z.enum(['system', 'developer', 'user', 'assistant']),
  content: Content,
  ...OF_AN_ANSWER,
})
const ToolCall = z.strictObject({
  type: z.enum(['function_call', 'custom_tool_call']),
  name: z.string(),
  /** Of a function; `input` is a custom tool's. */
  arguments: z.string().optional(),
  input: z.string().optional(),
  call_id: z.string().max(256).optional(),
  ...{ namespace: ignored, caller: ignored, async: ignored },
  // As OpenAI's own client parses them.
  parsed_arguments: ignored,
  ...OF_AN_ANSWER,
})
const ToolOutput = z.strictObject({
  type: z.enum(['function_call_output', 'custom_tool_call_output']),
  output: Content,
  call_id: z.string().max(256).optional(),
  caller: ignored,
  ...OF_AN_ANSWER,
})
const Thoughts = z.array(z.looseObject({ text: z.string().optional() })).max(1024)
/** Some templates have it, of the turns since the last question. */
const Reasoning = z.strictObject({
  type: z.literal('reasoning'),
  summary: Thoughts.optional(),
  content: Thoughts.optional(),
  encrypted_content: ignored,
  ...OF_AN_ANSWER,
})
/** Names an item of a stored response's output. */
const Reference = z.strictObject({ type: z.literal('item_reference'), id: z.string() })

/** The same without its `type`. An item with more than an id is another one, whose errors are told. */
const OnlyId = z
  .looseObject({ id: z.string().optional() })
  .refine((item) => Object.keys(item).join() === 'id')
  .meta({ required: ['id'], additionalProperties: false })
  .transform(({ id = '' }) => ({ type: 'item_reference' as const, id }))

/** The `type` of a message or of a reference may be left out. */
export const ResponseItem = z.union(
  [Message, z.discriminatedUnion('type', [ToolCall, ToolOutput, Reasoning, Reference]), OnlyId],
  'must be a message, a call of a tool or its output, or an item of an earlier answer',
)
export type ResponseItem = z.infer<typeof ResponseItem>
export type ResponseContent = z.infer<typeof Content>
