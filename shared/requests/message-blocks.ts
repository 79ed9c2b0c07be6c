import { z } from 'zod'
import { CacheControl } from './cache-control.ts'
import { ignored, ignoredAs } from './fields.ts'

const NOT_TEXT = 'images, documents and server tools are not supported: a content is text'

const Text = z.strictObject({
  type: z.literal('text'),
  text: z.string(),
  cache_control: CacheControl,
  citations: ignored,
  /** Anthropic's own client adds it. */
  parsed_output: ignored,
})
const Texts = z.union(
  [z.string(), z.array(z.discriminatedUnion('type', [Text], NOT_TEXT))],
  'must be a string or a list of text blocks',
)

const ToolUse = z.strictObject({
  type: z.literal('tool_use'),
  id: z.string().max(256).optional(),
  name: z.string().max(256),
  input: z.record(z.string(), z.unknown()),
  ...{ caller: ignored, toolset_name: ignored },
  cache_control: CacheControl,
})
const ToolResult = z.strictObject({
  type: z.literal('tool_result'),
  tool_use_id: z.string().max(256).optional(),
  content: Texts.optional(),
  is_error: ignoredAs(z.boolean()),
  toolset_name: ignored,
  cache_control: CacheControl,
})
/** Some templates have it, of the turns since the last question. */
const Thinking = z.strictObject({
  type: z.enum(['thinking', 'redacted_thinking']),
  thinking: z.string().optional(),
  signature: ignored,
  data: ignored,
})

const Block = z.discriminatedUnion('type', [Text, ToolUse, ToolResult, Thinking], NOT_TEXT)
export type MessageBlock = z.infer<typeof Block>

export const MessageContent = z.union(
  [z.string(), z.array(Block)],
  'must be a string or a list of text blocks',
)
export const SystemContent = Texts
