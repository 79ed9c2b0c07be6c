import { z } from 'zod'
import { Apar } from './openai.ts'
import { GenerateRequest, MAX_MESSAGES } from './protocol/request.ts'
import { FormatFields, TextFormat } from './requests/answer-format.ts'
import { ignored, ignoredAs, unsupported, unsupportedList } from './requests/fields.ts'
import { ModelName, type Named } from './requests/model-name.ts'
import { ResponseItem } from './requests/response-items.ts'
import {
  ABOUT_THE_CALL,
  MaxTokens,
  NEUTRAL_OF_OTHERS,
  SamplingFields,
  TemplateFields,
} from './requests/sampling.ts'
import { ResponseToolChoice, ResponseTools } from './requests/tools.ts'

const { temperature, top_p, frequency_penalty, presence_penalty } = GenerateRequest.shape

/** What an answer can include beside its text. Most of it is always empty. */
const Include = z
  .string()
  .max(64)
  .refine((what) => what !== 'message.output_text.logprobs', 'log-probabilities are not supported here')

/** As the edge makes them. */
export const ResponseId = z
  .string()
  .regex(/^resp_[A-Za-z0-9_-]{1,128}$/, "must be the id of a response, which begins with 'resp_'")

/**
 * `POST /v1/responses`, text only. Any field that is not listed is refused. null means absent: `parseBody` has left it
 * out.
 */
export const ResponsesRequest = z
  .strictObject({
    model: ModelName,
    input: z.union(
      [
        z.string().min(1),
        z
          .array(ResponseItem)
          .min(1)
          .max(MAX_MESSAGES - 1),
      ],
      'must be a string or a list of items',
    ),
    instructions: z.string().optional(),
    max_output_tokens: MaxTokens.optional(),
    temperature,
    top_p,
    frequency_penalty,
    presence_penalty,
    stream: z.boolean().optional(),
    apar: Apar.optional(),
    ...SamplingFields,
    chat_template_kwargs: TemplateFields.chat_template_kwargs,
    ...NEUTRAL_OF_OTHERS,

    /** Its conversation comes before `input`. */
    previous_response_id: ResponseId.optional(),
    conversation: unsupported('conversations are'),
    /** The answer is generated without its client, who asks for it later. */
    background: z.boolean().optional(),
    prompt: unsupported('stored prompts are'),
    text: z
      .strictObject({ format: TextFormat.optional(), verbosity: unsupported('verbosity is', 'medium') })
      .optional(),
    ...FormatFields,
    tools: ResponseTools,
    tool_choice: ResponseToolChoice,
    parallel_tool_calls: z.boolean().optional(),
    max_tool_calls: ignoredAs(z.int()),
    /** With `summary` or its older name, all of the reasoning is in the summary of its item. */
    reasoning: z
      .looseObject({
        effort: z.string().max(32).optional(),
        summary: z.string().max(32).optional(),
        generate_summary: z.string().max(32).optional(),
      })
      .optional(),
    include: ignoredAs(z.array(Include).max(32)),
    top_logprobs: unsupported('top_logprobs is', 0),
    truncation: unsupported('truncation is', 'disabled'),
    context_management: unsupportedList('context_management is'),
    moderation: unsupported('moderation is'),
    /** Codex sends it. */
    client_metadata: ignored,
    background_options: ignored,
    access_programs: ignored,
    stream_options: z.strictObject({ include_obfuscation: ignored }).optional(),

    ...ABOUT_THE_CALL,
    /** Default: true, as OpenAI's. */
    store: z.boolean().optional(),
    metadata: z.record(z.string().max(64), z.string().max(512)).optional(),
  })
  .refine(({ input }) => typeof input === 'string' || input.some(({ type }) => type !== 'reasoning'), {
    path: ['input'],
    error: 'has no text',
  })
  .refine(({ background, store }) => !(background && store === false), {
    path: ['background'],
    error: 'needs a response that is stored: store must not be false',
  })
export type ResponsesRequest = Named<z.infer<typeof ResponsesRequest>>
