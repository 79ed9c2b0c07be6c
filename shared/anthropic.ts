import { z } from 'zod'
import { Apar } from './openai.ts'
import { GenerateRequest, MAX_MESSAGES, MAX_NEW_TOKENS } from './protocol/request.ts'
import { FormatFields, MessageFormat } from './requests/answer-format.ts'
import { CacheControl } from './requests/cache-control.ts'
import { ignored, ignoredAs, refused, unsupportedList } from './requests/fields.ts'
import { MessageContent, SystemContent } from './requests/message-blocks.ts'
import { ModelName, type Named } from './requests/model-name.ts'
import { NEUTRAL_OF_OTHERS, SamplingFields, TemplateFields } from './requests/sampling.ts'
import { MessageToolChoice, MessageTools } from './requests/tools.ts'

const { max_tokens, top_p, stop } = GenerateRequest.shape

/** Edits of what an earlier turn thought: this server leaves all of it out. */
const Edit = z.looseObject({
  type: z.string().regex(/^clear_thinking_/, 'only edits that clear thinking are supported'),
})

/**
 * `POST /v1/messages` of Anthropic's API, text only. Any field that is not listed is refused. null means absent:
 * `parseBody` has left it out. When the last message is the assistant's, the answer continues it.
 */
export const MessagesRequest = z.strictObject({
  model: ModelName,
  messages: z
    .array(
      z.strictObject({
        /** `system`: what is said to the model from there on. */
        role: z.enum(['user', 'assistant', 'system']),
        content: MessageContent,
        // Fields of an answer that is sent back.
        ...{ id: ignored, type: ignored, model: ignored, usage: ignored, cache_control: CacheControl },
        ...{ stop_reason: ignored, stop_sequence: ignored, container: ignored, stop_details: ignored },
      }),
    )
    .min(1)
    .max(MAX_MESSAGES - 1),
  system: SystemContent.optional(),
  max_tokens: max_tokens.unwrap(),
  temperature: z.number().min(0).max(1).optional(),
  top_p,
  stop_sequences: stop,
  stream: z.boolean().optional(),
  apar: Apar.optional(),
  ...SamplingFields,
  chat_template_kwargs: TemplateFields.chat_template_kwargs,
  ...NEUTRAL_OF_OTHERS,

  /** Without it, and with `adaptive`, the model thinks as its chat template has it. */
  thinking: z
    .looseObject({
      type: z.enum(['enabled', 'disabled', 'adaptive']),
      budget_tokens: z.int().min(1).max(MAX_NEW_TOKENS).optional(),
      /** `omitted`: blocks of it have no text. */
      display: z.enum(['summarized', 'omitted']).optional(),
    })
    .optional(),
  output_config: z
    .strictObject({ effort: z.string().max(32).optional(), format: MessageFormat.optional() })
    .optional(),
  output_format: MessageFormat.optional(),
  ...FormatFields,
  tools: MessageTools,
  tool_choice: MessageToolChoice,
  mcp_servers: unsupportedList('MCP servers are'),
  context_management: refused(z.strictObject({ edits: z.array(Edit).max(16).optional() }).optional()),

  /** The whole prompt is marked. */
  cache_control: CacheControl,
  container: ignored,
  inference_geo: ignored,
  speed: ignored,
  diagnostics: ignored,
  metadata: ignored,
  service_tier: ignoredAs(z.string()),
})
export type MessagesRequest = Named<z.infer<typeof MessagesRequest>>
