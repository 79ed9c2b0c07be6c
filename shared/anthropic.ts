import { z } from 'zod'
import { Apar, ignored, unsupported } from './openai.ts'
import { GenerateRequest } from './protocol/request.ts'

const { model, max_tokens, top_p, top_k, stop } = GenerateRequest.shape

/** `cache_control` is ignored: the prefix cache needs no hints. */
const TextBlock = z.strictObject({
  type: z.literal('text', 'only text blocks are supported'),
  text: z.string(),
  cache_control: ignored,
  citations: unsupported('citations are'),
})

const Text = z.union([z.string(), z.array(TextBlock).min(1)], 'must be a string or a list of text blocks')

/** `POST /v1/messages` of Anthropic's API, text only. Any field that is not listed is refused. */
export const MessagesRequest = z
  .strictObject({
    model,
    messages: z
      .array(z.strictObject({ role: z.enum(['user', 'assistant']), content: Text }))
      .min(1)
      .max(1023),
    system: Text.optional(),
    max_tokens: max_tokens.unwrap(),
    temperature: z.number().min(0).max(1).optional(),
    top_p,
    top_k,
    stop_sequences: stop,
    stream: z.boolean().optional(),
    apar: Apar.nullish(),

    thinking: z.strictObject({ type: z.literal('disabled', 'thinking is not supported') }).optional(),
    tools: z.tuple([], 'tools are not supported').optional(),
    tool_choice: z.strictObject({ type: z.enum(['none', 'auto'], 'tools are not supported') }).optional(),

    cache_control: ignored,
    metadata: ignored,
    service_tier: ignored,
  })
  .refine(({ messages }) => messages.at(-1)?.role === 'user', {
    path: ['messages'],
    error: "the last message must be the user's: continuing a partial answer is not supported",
  })
export type MessagesRequest = z.infer<typeof MessagesRequest>
