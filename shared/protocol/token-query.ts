import { z } from 'zod'
import { ErrorEvent } from './events.ts'
import { GenerateRequest } from './request.ts'

/**
 * Longest answer to a query, in UTF-16 code units. A node that has dialled in sends it as a JSON string within a message,
 * where quotes take two, and a message may have 8 Mi.
 */
export const MAX_TOKEN_ANSWER_CHARS = 3 * 1024 * 1024
/** More than a body of 2 MiB can have. */
const MAX_TOKENS = 1024 * 1024

const { model, messages, raw_prompt } = GenerateRequest.shape
const { tools, add_generation_prompt, continue_final_message, chat_template_kwargs } = GenerateRequest.shape
/** A conversation, as in a request. */
const conversation = { messages, tools, add_generation_prompt, continue_final_message, chat_template_kwargs }

/** A question about tokens, which a gpu node answers without its engine. */
export const TokenQuery = z.discriminatedUnion('ask', [
  z.strictObject({
    ask: z.literal('tokenize'),
    model,
    /** Of a raw prompt the text may be empty. */
    ...conversation,
    raw_prompt,
    /** For a raw prompt: with the first token that the tokenizer adds. */
    add_special_tokens: z.boolean(),
    /** For a raw prompt: texts of special tokens are these tokens. In a chat they never are. */
    parse_special: z.boolean(),
    /** What the answer has beside the number of tokens. */
    list: z.enum(['nothing', 'ids', 'ids_and_texts']),
  }),
  /** What the chat template makes of it. */
  z.strictObject({ ask: z.literal('render'), model, ...conversation }),
  z.strictObject({
    ask: z.literal('detokenize'),
    model,
    tokens: z
      .array(
        z
          .int()
          .min(0)
          .max(2 ** 31 - 1),
      )
      .max(MAX_TOKENS),
  }),
  z.strictObject({ ask: z.literal('tokenizer'), model }),
])
export type TokenQuery = z.infer<typeof TokenQuery>

/** Of a tokenizer, as in `tokenizer_config.json`. */
export const TokenizerInfo = z.strictObject({
  tokenizer_class: z.string(),
  vocab_size: z.int().min(0),
  add_bos_token: z.boolean(),
  bos_token: z.string().nullable(),
  eos_token: z.string().nullable(),
  unk_token: z.string().nullable(),
  pad_token: z.string().nullable(),
  chat_template: z.string().nullable(),
})
export type TokenizerInfo = z.infer<typeof TokenizerInfo>

/** The one frame with which a node answers a query. */
export const TokenAnswer = z.discriminatedUnion('type', [
  z.strictObject({
    type: z.literal('tokens'),
    count: z.int().min(0),
    tokens: z.array(z.int().min(0)).optional(),
    token_strs: z.array(z.string()).optional(),
  }),
  z.strictObject({ type: z.literal('text'), text: z.string() }),
  z.strictObject({ type: z.literal('tokenizer'), info: TokenizerInfo }),
  ErrorEvent.omit({ seq: true }),
])
export type TokenAnswer = z.infer<typeof TokenAnswer>
/** An answer that is no error. */
export type GoodTokenAnswer = Exclude<TokenAnswer, { type: 'error' }>
