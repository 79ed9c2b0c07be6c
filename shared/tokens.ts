import { z } from 'zod'
import { MessagesRequest } from './anthropic.ts'
import { ChatCompletionRequest } from './openai.ts'
import { ignored, unsupported } from './requests/fields.ts'
import { ModelName } from './requests/model-name.ts'
import { ResponsesRequest } from './responses.ts'

const MAX_PROMPT_CHARS = 1_000_000

const model = ModelName.nullable()
const return_token_strs = z.boolean().nullish()

/** `POST /tokenize` of a text, as vLLM has it, with `parse_special` of llama.cpp. */
export const TokenizeText = z.strictObject({
  model,
  prompt: z.string().max(MAX_PROMPT_CHARS),
  /** With the first token that a prompt of `/v1/completions` gets. Default true. */
  add_special_tokens: z.boolean().nullish(),
  /** Whether the text of a special token, as `</s>`, is that token. A prompt's never is. Default true. */
  parse_special: z.boolean().nullish(),
  return_token_strs,
})

/** `POST /tokenize` of a conversation: the tokens of a chat's prompt. */
export const TokenizeChat = z.strictObject({
  model,
  messages: ChatCompletionRequest.shape.messages,
  add_generation_prompt: ChatCompletionRequest.shape.add_generation_prompt,
  continue_final_message: ChatCompletionRequest.shape.continue_final_message,
  chat_template_kwargs: ChatCompletionRequest.shape.chat_template_kwargs,
  tools: ChatCompletionRequest.shape.tools,
  return_token_strs,
  add_special_tokens: unsupported('the template writes the special tokens: add_special_tokens is', false),
  chat_template: unsupported('a template of the request is'),
})

const { messages, tools, add_generation_prompt, continue_final_message, chat_template_kwargs } =
  TokenizeChat.shape

/** `POST /apply-template`, as llama.cpp has it: the text of a chat's prompt. */
export const ApplyTemplateRequest = z.strictObject({
  ...{ model, messages, tools, add_generation_prompt, continue_final_message, chat_template_kwargs },
})

export const TokenizeRequest = z.union([TokenizeText, TokenizeChat])

/** `POST /detokenize`, as vLLM has it. */
export const DetokenizeRequest = z.strictObject({
  model,
  tokens: z
    .array(
      z
        .int()
        .min(0)
        .max(2 ** 31 - 1),
    )
    .max(MAX_PROMPT_CHARS),
})

/** Fields of a message's request that say how it is answered, and not what. */
const OF_THE_ANSWER = ['max_tokens', 'stream', 'temperature', 'top_p', 'top_k', 'stop_sequences', 'apar']

const leftOut = ignored.transform(() => undefined)

/** `POST /v1/messages/count_tokens`: a message's request, of which what only concerns the answer is ignored. */
export const CountTokensRequest = z.strictObject({
  ...(MessagesRequest.shape as Omit<typeof MessagesRequest.shape, 'max_tokens'>),
  ...Object.fromEntries(OF_THE_ANSWER.map((name) => [name, leftOut])),
})

const response = ResponsesRequest.shape

/** `POST /v1/responses/input_tokens`: what of a response's request OpenAI takes there, and the template's variables. */
export const ResponseTokensRequest = z.strictObject({
  model: response.model,
  input: response.input,
  instructions: response.instructions,
  previous_response_id: response.previous_response_id,
  conversation: response.conversation,
  tools: response.tools,
  tool_choice: response.tool_choice,
  parallel_tool_calls: response.parallel_tool_calls,
  reasoning: response.reasoning,
  text: response.text,
  truncation: response.truncation,
  chat_template_kwargs: response.chat_template_kwargs,
})
