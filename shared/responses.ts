import { z } from 'zod'
import { Apar, ignored, unsupported } from './openai.ts'
import { GenerateRequest } from './protocol/request.ts'

const { model, max_tokens, temperature, top_p } = GenerateRequest.shape

/** A client that sends an earlier answer back may include `annotations` and `logprobs`; both are ignored. */
const Part = z.strictObject({
  type: z.enum(['input_text', 'output_text'], 'only text is supported'),
  text: z.string(),
  annotations: ignored,
  logprobs: ignored,
})

const Item = z.strictObject({
  type: z.literal('message', 'only messages are supported').optional(),
  role: z.enum(['system', 'developer', 'user', 'assistant']),
  content: z.union([z.string(), z.array(Part).min(1)], 'must be a string or a list of text parts'),
  id: ignored,
  status: ignored,
})

/**
 * `POST /v1/responses`, text only. Responses are not stored, so fields that need a stored response are refused,
 * and so is any field that is not listed.
 */
export const ResponsesRequest = z.strictObject({
  model,
  input: z.union(
    [z.string().min(1), z.array(Item).min(1).max(1023)],
    'must be a string or a list of messages',
  ),
  instructions: z.string().nullish(),
  max_output_tokens: max_tokens.nullable(),
  temperature: temperature.nullable(),
  top_p: top_p.nullable(),
  stream: z.boolean().nullish(),
  apar: Apar.nullish(),

  store: unsupported('responses are not stored: store: true is', false),
  previous_response_id: unsupported('responses are not stored: previous_response_id is'),
  conversation: unsupported('responses are not stored: conversation is'),
  background: unsupported('background is', false),
  prompt: unsupported('stored prompts are'),
  text: z
    .strictObject({
      format: z.strictObject({ type: z.literal('text', 'only the text format is supported') }).nullish(),
      verbosity: unsupported('verbosity is'),
    })
    .nullish(),
  tools: z.tuple([], 'tools are not supported').nullish(),
  tool_choice: unsupported('tools are', 'none', 'auto'),
  parallel_tool_calls: unsupported('tools are', false),
  max_tool_calls: unsupported('tools are'),
  reasoning: unsupported('reasoning is'),
  include: z.tuple([], 'include is not supported').nullish(),
  top_logprobs: unsupported('top_logprobs is', 0),
  truncation: unsupported('truncation is', 'disabled'),
  stream_options: z
    .strictObject({
      include_obfuscation: z.literal(false, 'obfuscation is not supported').optional(),
    })
    .nullish(),

  metadata: z.record(z.string().max(64), z.string().max(512)).nullish(),
  user: ignored,
  safety_identifier: ignored,
  prompt_cache_key: ignored,
  prompt_cache_retention: ignored,
  service_tier: ignored,
})
export type ResponsesRequest = z.infer<typeof ResponsesRequest>
