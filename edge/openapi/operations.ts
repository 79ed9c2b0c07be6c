import type { z } from 'zod'
import { MessagesRequest } from '../../shared/anthropic.ts'
import { ChangeKeyRequest, CreateKeyRequest, RotateKeyRequest } from '../../shared/api-keys.ts'
import { Feedback } from '../../shared/feedback.ts'
import { ChatCompletionRequest, CompletionRequest } from '../../shared/openai.ts'
import { ResponsesRequest } from '../../shared/responses.ts'
import {
  ApplyTemplateRequest,
  CountTokensRequest,
  DetokenizeRequest,
  ResponseTokensRequest,
  TokenizeRequest,
} from '../../shared/tokens.ts'
import * as parameters from './parameters.ts'

/** Names of the schemas in `components` (document.ts) that an answer has. */
type Name = keyof typeof import('./schemas.ts').ANSWERS

/** Who may call an operation. `socket`: a key, or a ticket in the query. */
export type Access = 'anybody' | 'key' | 'socket' | 'admin' | 'metrics'

export interface Operation {
  readonly method: 'get' | 'post' | 'patch' | 'delete'
  readonly path: string
  readonly id: string
  readonly summary: string
  readonly access: Access
  readonly body?: z.ZodType
  /** The body may be absent: it is `{}` then. */
  readonly optionalBody?: boolean
  readonly parameters?: readonly parameters.Parameter[]
  /** Default 200. */
  readonly status?: 101 | 200 | 201 | 204
  /** Schemas of which an answer has one; none for an answer without a body. */
  readonly answers?: readonly Name[]
  /** With `stream: true`: schema of the data of each server-sent event. */
  readonly events?: Name
  /** Default: JSON. */
  readonly type?: string
  /** Statuses of errors that this operation has beside those of its access. */
  readonly errors?: readonly number[]
}

/** What every call that generates may be answered with. */
const GENERATION_ERRORS = [400, 404, 408, 413, 415, 429, 500, 502, 503]
const BODY_ERRORS = [400, 408, 413, 415]

/** All operations for clients and operators. test/edge/openapi.test.ts calls each of them. */
export const OPERATIONS: readonly Operation[] = [
  {
    ...{ method: 'post', path: '/v1/chat/completions', id: 'createChatCompletion', access: 'key' },
    summary: 'An answer to a conversation, whole or streamed',
    body: ChatCompletionRequest,
    parameters: [parameters.LAST_EVENT_ID],
    answers: ['ChatCompletion'],
    events: 'ChatCompletionChunk',
    errors: [...GENERATION_ERRORS, 409],
  },
  {
    ...{ method: 'post', path: '/v1/completions', id: 'createCompletion', access: 'key' },
    summary: 'The continuation of a text, whole or streamed',
    body: CompletionRequest,
    parameters: [parameters.LAST_EVENT_ID],
    answers: ['Completion'],
    events: 'Completion',
    errors: [...GENERATION_ERRORS, 409],
  },
  {
    ...{ method: 'post', path: '/v1/responses', id: 'createResponse', access: 'key' },
    summary: "OpenAI's Responses API: whole or streamed, stored unless store is false",
    body: ResponsesRequest,
    answers: ['Response'],
    events: 'ResponseEvent',
    errors: GENERATION_ERRORS,
  },
  {
    ...{ method: 'post', path: '/v1/responses/input_tokens', id: 'countResponseTokens', access: 'key' },
    summary: "How many tokens a response's request has",
    body: ResponseTokensRequest,
    answers: ['ResponseTokenCount'],
    errors: GENERATION_ERRORS,
  },
  {
    ...{ method: 'get', path: '/v1/responses/{id}', id: 'getResponse', access: 'key' },
    summary: 'A stored response, or with stream=true the events of one in the background',
    parameters: [parameters.RESPONSE_ID, ...parameters.RESPONSE_STREAM],
    answers: ['Response'],
    events: 'ResponseEvent',
    errors: [400, 404, 503],
  },
  {
    ...{ method: 'post', path: '/v1/responses/{id}/cancel', id: 'cancelResponse', access: 'key' },
    summary: 'Cancels a response that runs in the background',
    parameters: [parameters.RESPONSE_ID],
    answers: ['Response'],
    errors: [400, 404, 503],
  },
  {
    ...{ method: 'delete', path: '/v1/responses/{id}', id: 'deleteResponse', access: 'key' },
    summary: 'Deletes a stored response',
    parameters: [parameters.RESPONSE_ID],
    answers: ['DeletedResponse'],
    errors: [404, 503],
  },
  {
    ...{ method: 'get', path: '/v1/responses/{id}/input_items', id: 'listInputItems', access: 'key' },
    summary: 'The input of a stored response',
    parameters: [parameters.RESPONSE_ID, ...parameters.ITEM_PAGE],
    answers: ['InputItems'],
    errors: [400, 404, 503],
  },
  {
    ...{ method: 'post', path: '/v1/messages', id: 'createMessage', access: 'key' },
    summary: "Anthropic's Messages API: whole or streamed",
    body: MessagesRequest,
    answers: ['Message'],
    events: 'MessageEvent',
    errors: GENERATION_ERRORS,
  },
  {
    ...{ method: 'post', path: '/v1/messages/count_tokens', id: 'countTokens', access: 'key' },
    summary: "How many tokens a message's request has",
    body: CountTokensRequest,
    answers: ['TokenCount'],
    errors: GENERATION_ERRORS,
  },
  {
    ...{ method: 'post', path: '/tokenize', id: 'tokenize', access: 'key' },
    summary: 'The tokens of a text or of a conversation',
    body: TokenizeRequest,
    answers: ['Tokens'],
    errors: GENERATION_ERRORS,
  },
  {
    ...{ method: 'post', path: '/apply-template', id: 'applyTemplate', access: 'key' },
    summary: "The text of a chat's prompt",
    body: ApplyTemplateRequest,
    answers: ['Text'],
    errors: GENERATION_ERRORS,
  },
  {
    ...{ method: 'post', path: '/detokenize', id: 'detokenize', access: 'key' },
    summary: 'The text of tokens',
    body: DetokenizeRequest,
    answers: ['Text'],
    errors: GENERATION_ERRORS,
  },
  {
    ...{ method: 'get', path: '/tokenizer_info', id: 'getTokenizerInfo', access: 'key' },
    summary: 'Special tokens and chat template of a model',
    parameters: [parameters.MODEL_NAME],
    answers: ['TokenizerInfo'],
    errors: [400, 404, 502, 503],
  },
  {
    ...{ method: 'get', path: '/v1/models', id: 'listModels', access: 'key' },
    summary: 'The models that are served now',
    parameters: [parameters.ANTHROPIC_VERSION, ...parameters.MODEL_PAGE],
    answers: ['Models', 'AnthropicModels'],
    errors: [400, 404],
  },
  {
    ...{ method: 'get', path: '/v1/models/{id}', id: 'getModel', access: 'key' },
    summary: 'One model',
    parameters: [parameters.MODEL_ID, parameters.ANTHROPIC_VERSION],
    answers: ['Model', 'AnthropicModel'],
    errors: [404],
  },
  {
    ...{ method: 'get', path: '/v1/usage', id: 'getUsage', access: 'key' },
    summary: 'What the key has used, and its limits',
    parameters: parameters.DAYS,
    answers: ['UsageReport'],
    errors: [400],
  },
  {
    ...{ method: 'post', path: '/v1/tickets', id: 'createTicket', access: 'key', status: 201 },
    summary: 'A ticket that opens one WebSocket stream within a minute',
    answers: ['Ticket'],
    errors: [503],
  },
  {
    ...{ method: 'post', path: '/v1/feedback', id: 'giveFeedback', access: 'key' },
    summary: 'A vote on an answer, which replaces an earlier one',
    body: Feedback,
    answers: ['FeedbackReceipt'],
    errors: [...BODY_ERRORS, 404, 503],
  },
  {
    ...{ method: 'delete', path: '/v1/feedback/{id}', id: 'withdrawFeedback', access: 'key', status: 204 },
    summary: 'Takes a vote back',
    parameters: [parameters.FEEDBACK_ID],
    errors: [400, 503],
  },
  {
    ...{ method: 'get', path: '/v1/stream', id: 'openStream', access: 'socket', status: 101 },
    summary: 'WebSocket: the branch protocol (docs/protocol.md)',
    parameters: parameters.STREAM_QUERY,
    errors: [400, 404, 426],
  },
  {
    ...{ method: 'delete', path: '/v1/streams/{id}', id: 'cancelStream', access: 'key', status: 204 },
    summary: 'Cancels a resumable stream',
    parameters: [parameters.STREAM_ID],
    errors: [404],
  },
  {
    ...{ method: 'get', path: '/health', id: 'getHealth', access: 'anybody' },
    summary: 'Whether requests can be served',
    answers: ['Health'],
    errors: [429, 503],
  },
  {
    ...{ method: 'get', path: '/metrics', id: 'getMetrics', access: 'metrics' },
    summary: 'The gpu nodes, for Prometheus',
    type: 'text/plain',
  },
  {
    ...{ method: 'get', path: '/admin/v1/keys', id: 'listKeys', access: 'admin' },
    summary: 'All keys, paginated',
    parameters: parameters.KEY_PAGE,
    answers: ['Keys'],
    errors: [400],
  },
  {
    ...{ method: 'post', path: '/admin/v1/keys', id: 'createKey', access: 'admin', status: 201 },
    summary: 'Creates a key; only this response shows it',
    body: CreateKeyRequest,
    optionalBody: true,
    answers: ['NewKey'],
    errors: [...BODY_ERRORS, 409],
  },
  {
    ...{ method: 'get', path: '/admin/v1/keys/{id}', id: 'getKey', access: 'admin' },
    summary: 'A key, without its secret',
    parameters: [parameters.KEY_ID],
    answers: ['KeyInfo'],
    errors: [400, 404],
  },
  {
    ...{ method: 'patch', path: '/admin/v1/keys/{id}', id: 'changeKey', access: 'admin' },
    summary: 'Changes what a key may do',
    parameters: [parameters.KEY_ID],
    body: ChangeKeyRequest,
    optionalBody: true,
    answers: ['KeyInfo'],
    errors: [...BODY_ERRORS, 404],
  },
  {
    ...{ method: 'delete', path: '/admin/v1/keys/{id}', id: 'revokeKey', access: 'admin' },
    summary: 'Revokes a key for good',
    parameters: [parameters.KEY_ID],
    answers: ['KeyInfo'],
    errors: [400, 404],
  },
  {
    ...{ method: 'post', path: '/admin/v1/keys/{id}/rotate', id: 'rotateKey', access: 'admin' },
    summary: 'A new secret for a key',
    parameters: [parameters.KEY_ID],
    body: RotateKeyRequest,
    optionalBody: true,
    answers: ['NewKey'],
    errors: [...BODY_ERRORS, 404],
  },
  {
    ...{ method: 'get', path: '/admin/v1/keys/{id}/usage', id: 'getKeyUsage', access: 'admin' },
    summary: 'What a key has used',
    parameters: [parameters.KEY_ID, ...parameters.DAYS],
    answers: ['UsageReport'],
    errors: [400, 404],
  },
  {
    ...{ method: 'get', path: '/admin/v1/feedback', id: 'exportFeedback', access: 'admin' },
    summary: 'The votes of users, a line of JSON each',
    parameters: [parameters.FEEDBACK_AFTER],
    type: 'application/jsonl',
    errors: [400],
  },
  {
    ...{ method: 'delete', path: '/admin/v1/feedback', id: 'deleteFeedback', access: 'admin', status: 204 },
    summary: 'Deletes the votes of a key or of a subject',
    parameters: [parameters.FEEDBACK_OWNER],
    errors: [400],
  },
  {
    ...{ method: 'get', path: '/admin/v1/nodes', id: 'listNodes', access: 'admin' },
    summary: 'The gpu nodes, with what they serve and whether they are suspended',
    answers: ['Nodes'],
  },
]
