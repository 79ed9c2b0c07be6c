import type { Context } from 'hono'
import { z } from 'zod'
import { AparError } from '../../shared/errors.ts'
import { parse, parseStrangersJson } from '../../shared/parse.ts'
import { GenerateRequest } from '../../shared/protocol/request.ts'
import type { GoodTokenAnswer, TokenQuery } from '../../shared/protocol/token-query.ts'
import {
  ApplyTemplateRequest,
  CountTokensRequest,
  DetokenizeRequest,
  ResponseTokensRequest,
  TokenizeChat,
  TokenizeText,
} from '../../shared/tokens.ts'
import { messagesRequest } from '../anthropic/messages.ts'
import type { AppEnv } from '../app-env.ts'
import { authorizeOnce } from '../keys/authorize.ts'
import { requireModel } from '../keys/principal.ts'
import { tenantOf } from '../keys/tenant.ts'
import { logTrouble } from '../log.ts'
import { apiBody } from '../middleware/api-body.ts'
import { bodyText } from '../middleware/request-body.ts'
import { askNode } from '../nodes/ask-node.ts'
import type { FleetModel } from '../nodes/node-registry.ts'
import { chatRequests } from '../openai/request.ts'
import { inputItems, responsesRequest } from '../openai/responses.ts'
import { itemsOf } from '../responses/conversation.ts'
import { withFormatOf, withPromptAs } from '../streams/http/generate-request.ts'
import { modelOf, withModel } from './named-model.ts'

const ModelQuery = z.object({ model: GenerateRequest.shape.model.optional() })

type Tokenize = Extract<TokenQuery, { ask: 'tokenize' }>

/** `POST /tokenize`, in vLLM's shapes: of a text, or of a conversation. */
export async function tokenize(c: Context<AppEnv>): Promise<Response> {
  return hasMessages(parseStrangersJson(await bodyText(c)))
    ? await tokenizeChat(c, await apiBody(c, TokenizeChat))
    : await tokenizeText(c, await apiBody(c, TokenizeText))
}

function hasMessages(body: unknown): boolean {
  return typeof body === 'object' && body !== null && 'messages' in body && body.messages !== null
}

async function tokenizeText(
  c: Context<AppEnv>,
  body: ReturnType<typeof TokenizeText.parse>,
): Promise<Response> {
  const { prompt, add_special_tokens, parse_special, return_token_strs, ...named } = body
  const model = await modelOf(c, named.model)
  const query: Tokenize = {
    ...{ ask: 'tokenize', model: model.id, raw_prompt: true },
    messages: [{ role: 'user', content: prompt }],
    add_special_tokens: add_special_tokens ?? true,
    parse_special: parse_special ?? true,
    list: listOf(return_token_strs),
  }
  return withPromptAs('prompt', async () => tokensOf(c, model, query))
}

async function tokenizeChat(
  c: Context<AppEnv>,
  body: ReturnType<typeof TokenizeChat.parse>,
): Promise<Response> {
  const model = await modelOf(c, body.model)
  return await tokensOf(c, model, {
    ...{ ask: 'tokenize', ...promptOf(chatOf(model, body)) },
    add_special_tokens: false,
    parse_special: false,
    list: listOf(body.return_token_strs),
  })
}

/** `POST /apply-template`, in llama.cpp's shapes. */
export async function applyTemplate(c: Context<AppEnv>): Promise<Response> {
  const body = await apiBody(c, ApplyTemplateRequest)
  const answer = await ask(c, { ask: 'render', ...promptOf(chatOf(await modelOf(c, body.model), body)) })
  if (answer.type !== 'text') throw unexpected(answer)
  return c.json({ prompt: answer.text })
}

/** The request of a chat with this conversation. */
function chatOf(model: FleetModel, body: z.infer<typeof ApplyTemplateRequest>): GenerateRequest {
  const { messages, tools, add_generation_prompt, continue_final_message, chat_template_kwargs } = body
  const options = { tools, add_generation_prompt, continue_final_message, chat_template_kwargs }
  const [request] = chatRequests({ model: model.id, messages, ...options })
  if (!request) throw new Error('a chat without a request')
  return request
}

/** `POST /detokenize`, in vLLM's shapes. */
export async function detokenize(c: Context<AppEnv>): Promise<Response> {
  const { tokens, model: named } = await apiBody(c, DetokenizeRequest)
  const model = await modelOf(c, named)
  const answer = await ask(c, { ask: 'detokenize', model: model.id, tokens })
  if (answer.type !== 'text') throw unexpected(answer)
  return c.json({ prompt: answer.text })
}

/** `GET /tokenizer_info`, in vLLM's shape. `?model=` names one of several models. */
export async function tokenizerInfo(c: Context<AppEnv>): Promise<Response> {
  const model = await modelOf(c, parse(ModelQuery, c.req.query()).model)
  const answer = await ask(c, { ask: 'tokenizer', model: model.id })
  if (answer.type !== 'tokenizer') throw unexpected(answer)
  return c.json({ ...answer.info, model_max_length: model.context_tokens })
}

/** `POST /v1/messages/count_tokens` of Anthropic's API. */
export async function countTokens(c: Context<AppEnv>): Promise<Response> {
  const body = await withModel(c, await apiBody(c, CountTokensRequest))
  // Limits of the answer say nothing about the prompt.
  const request = messagesRequest({ ...body, max_tokens: 1, min_tokens: 0 })
  requireModel(c.get('principal'), request.model)
  return c.json({ input_tokens: await countOf(c, request) })
}

/** `POST /v1/responses/input_tokens` of OpenAI's API. */
export async function countResponseTokens(c: Context<AppEnv>): Promise<Response> {
  const body = await withModel(c, await apiBody(c, ResponseTokensRequest))
  const { before, own } = await itemsOf(c, inputItems(body), body.previous_response_id)
  await authorizeOnce(c, 'generate')
  const count = async () => {
    const request = responsesRequest(body, [...before, ...own])
    requireModel(c.get('principal'), request.model)
    return await countOf(c, request)
  }
  const input_tokens = await withPromptAs('input', () => withFormatOf(body, count), c.get('unknownFields'))
  return c.json({ object: 'response.input_tokens', input_tokens })
}

/** Of the request's prompt. */
async function countOf(c: Context<AppEnv>, request: GenerateRequest): Promise<number> {
  const answer = await ask(c, {
    ...{ ask: 'tokenize', ...promptOf(request) },
    ...{ add_special_tokens: false, parse_special: false, list: 'nothing' },
  })
  if (answer.type !== 'tokens') throw unexpected(answer)
  return answer.count
}

async function tokensOf(c: Context<AppEnv>, model: FleetModel, query: Tokenize): Promise<Response> {
  const answer = await ask(c, query)
  if (answer.type !== 'tokens') throw unexpected(answer)
  const { count, tokens, token_strs = null } = answer
  return c.json({ count, max_model_len: model.context_tokens, tokens, token_strs })
}

/** The part of a request that becomes its prompt. */
function promptOf(request: GenerateRequest) {
  const { model, messages, tools, add_generation_prompt, continue_final_message, chat_template_kwargs } =
    request
  return { model, messages, tools, add_generation_prompt, continue_final_message, chat_template_kwargs }
}

async function ask(c: Context<AppEnv>, query: TokenQuery): Promise<GoodTokenAnswer> {
  const request_id = c.get('requestId')
  const onFailure = (why: unknown) => logTrouble(c.env, { request_id }, why)
  return await askNode(c.env, query, { tenant: await tenantOf(c.get('principal')), onFailure })
}

function listOf(withTexts: boolean | null | undefined): Tokenize['list'] {
  return withTexts ? 'ids_and_texts' : 'ids'
}

function unexpected({ type }: GoodTokenAnswer): AparError {
  return new AparError('gpu_node_lost', `the gpu node answered with ${type}`)
}
