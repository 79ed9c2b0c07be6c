import { z } from 'zod'
import { ignored, unsupported } from './fields.ts'

/** The part of a content that is no text, and why it is refused. */
const NOT_TEXT = 'images, audio and files are not supported: a content is text'

/** `refusal` is a part of an answer. `cache_control` needs no hints: the prefix cache has every prompt. */
const Part = z.discriminatedUnion(
  'type',
  [
    z.strictObject({
      /** As `/v1/responses` names them, too: clients move conversations from there. */
      type: z.enum(['text', 'input_text', 'output_text']),
      text: z.string(),
      cache_control: ignored,
      prompt_cache_breakpoint: ignored,
      annotations: ignored,
    }),
    z.strictObject({ type: z.literal('refusal'), refusal: z.string() }),
  ],
  NOT_TEXT,
)
export type ChatPart = z.infer<typeof Part>

const Content = z.union([z.string(), z.array(Part).min(1)], 'must be a string or a list of text parts')
/** Of an answer: an empty list is one without text. */
const AnswerContent = z.union([z.string(), z.array(Part)], 'must be a string or a list of text parts')

/** `parsed_arguments` and `parsed` are added by OpenAI's own client. */
const Call = z.strictObject({ name: z.string(), arguments: z.string(), parsed_arguments: ignored })

const ToolCall = z.strictObject({
  id: z.string().max(256).optional(),
  index: ignored,
  type: z.enum(['function', 'custom']).optional(),
  function: Call.optional(),
  custom: z.strictObject({ name: z.string(), input: z.string() }).optional(),
  extra_content: ignored,
})
export type ToolCall = z.infer<typeof ToolCall>

/** Who of several speakers says it; templates of chat models do not tell them apart. */
const name = ignored

const Asked = z.strictObject({
  role: z.enum(['system', 'developer', 'user']),
  content: Content,
  name,
  cache_control: ignored,
})

/** An earlier answer, with all that this API and other servers have in one. */
const Answered = z.strictObject({
  role: z.literal('assistant'),
  content: AnswerContent.optional(),
  name,
  refusal: z.string().optional(),
  tool_calls: z.array(ToolCall).max(1024).optional(),
  function_call: Call.optional(),
  audio: unsupported('audio is'),
  annotations: ignored,
  parsed: ignored,
  cache_control: ignored,
  /** Some templates have it, of the turns since the last question. */
  reasoning_content: z.string().optional(),
  reasoning: z.unknown().optional(),
  reasoning_details: ignored,
  thinking_blocks: ignored,
  provider_specific_fields: ignored,
})

/** What a tool returned. */
const Returned = z.strictObject({
  role: z.enum(['tool', 'function']),
  content: AnswerContent.optional(),
  name,
  tool_call_id: z.string().max(256).optional(),
  cache_control: ignored,
})

/** `developer` is what newer OpenAI models call the system role. */
export const ChatMessage = z.discriminatedUnion(
  'role',
  [Asked, Answered, Returned],
  'must be system, developer, user, assistant or tool',
)
export type ChatMessage = z.infer<typeof ChatMessage>
