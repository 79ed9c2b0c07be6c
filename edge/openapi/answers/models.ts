import { z } from 'zod'
import { count, time } from './completions.ts'

/** `differs`: in what the gpu nodes of the model differ, only if they do. */
export const Model = z.strictObject({
  id: z.string(),
  object: z.literal('model'),
  created: time,
  owned_by: z.string(),
  max_model_len: count,
  context_tokens: count,
  fingerprints: z.array(z.string()).optional(),
  differs: z.array(z.string()).optional(),
})

export const Models = z.strictObject({ object: z.literal('list'), data: z.array(Model) })

/** The form for clients that send `anthropic-version`. */
export const AnthropicModel = z.strictObject({
  type: z.literal('model'),
  id: z.string(),
  display_name: z.string(),
  created_at: z.iso.datetime(),
  max_input_tokens: count,
  max_tokens: count,
  lifecycle: z.literal('active'),
  capabilities: z.null(),
  line: z.null(),
  deprecated_at: z.null(),
  retires_at: z.null(),
})

export const AnthropicModels = z.strictObject({
  data: z.array(AnthropicModel),
  has_more: z.boolean(),
  first_id: z.string().nullable(),
  last_id: z.string().nullable(),
})
