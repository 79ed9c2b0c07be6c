import { z } from 'zod'
import { FeedbackReceipt, KeyInfo, Keys, NewKey, Nodes, Ticket, UsageReport } from './answers/account.ts'
import { ChatCompletion, ChatCompletionChunk, Completion } from './answers/completions.ts'
import { errorSchema, messagesErrorSchema } from './answers/errors.ts'
import { Message, MessageEvent } from './answers/messages.ts'
import { AnthropicModel, AnthropicModels, Model, Models } from './answers/models.ts'
import { DeletedResponse, InputItems, ResponseEvent, ResponseObject } from './answers/responses.ts'
import { ResponseTokenCount, Text, TokenCount, TokenizerInfo, Tokens } from './answers/tokens.ts'

/** The schemas of answers, by their names in the document. */
export const ANSWERS = {
  ...{ ChatCompletion, ChatCompletionChunk, Completion, Response: ResponseObject, ResponseEvent },
  ...{ DeletedResponse, InputItems },
  ...{ Message, MessageEvent, Model, Models, AnthropicModel, AnthropicModels },
  ...{ TokenCount, ResponseTokenCount, Tokens, Text, TokenizerInfo },
  ...{ UsageReport, Ticket, FeedbackReceipt, KeyInfo, NewKey, Keys, Nodes },
  Health: z.strictObject({ status: z.literal('ok') }),
  Error: errorSchema,
  MessagesError: messagesErrorSchema,
} satisfies Record<string, z.ZodType>

type JsonSchema = z.core.JSONSchema.BaseSchema

/** As JSON Schema 2020-12 without `$schema`, which a document of OpenAPI 3.1 has by itself. */
export function jsonSchemaOf(schema: z.ZodType, io: 'input' | 'output'): JsonSchema {
  const { $schema: _, ...json } = z.toJSONSchema(schema, {
    io,
    override: ({ jsonSchema }) => {
      // A tuple without items: `prefixItems` needs at least one.
      if (jsonSchema.prefixItems?.length !== 0) return
      delete jsonSchema.prefixItems
      jsonSchema.maxItems = 0
    },
  })
  return json
}
