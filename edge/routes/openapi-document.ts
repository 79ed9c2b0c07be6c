import type { z } from 'zod'
import { MessagesRequest } from '../../shared/anthropic.ts'
import { ChangeKeyRequest, CreateKeyRequest, RotateKeyRequest } from '../../shared/api-keys.ts'
import { ERROR_CODES } from '../../shared/errors.ts'
import { ChatCompletionRequest, CompletionRequest } from '../../shared/openai.ts'
import { jsonSchemaOf } from '../../shared/requests/json-schema.ts'
import { ResponsesRequest } from '../../shared/responses.ts'

/** All operations for clients and operators, with their bodies. test/edge/openapi.test.ts calls each of them. */
const OPERATIONS: readonly Operation[] = [
  ['post', '/v1/chat/completions', 'An answer to a conversation, whole or streamed', ChatCompletionRequest],
  ['post', '/v1/completions', 'The continuation of a text, whole or streamed', CompletionRequest],
  ['post', '/v1/responses', "OpenAI's Responses API, stateless: whole or streamed", ResponsesRequest],
  ['post', '/v1/messages', "Anthropic's Messages API: whole or streamed", MessagesRequest],
  ['get', '/v1/models', 'The models that are served now'],
  ['get', '/v1/models/{id}', 'One model'],
  ['get', '/v1/usage', 'What the key has used, and its limits'],
  ['post', '/v1/tickets', 'A ticket that opens one WebSocket stream within a minute'],
  ['get', '/v1/stream', 'WebSocket: the branch protocol'],
  ['delete', '/v1/streams/{id}', 'Cancels a resumable stream'],
  ['get', '/admin/v1/keys', 'All keys, paginated'],
  ['post', '/admin/v1/keys', 'Creates a key; only this response shows it', CreateKeyRequest],
  ['get', '/admin/v1/keys/{id}', 'A key, without its secret'],
  ['patch', '/admin/v1/keys/{id}', 'Changes what a key may do', ChangeKeyRequest],
  ['delete', '/admin/v1/keys/{id}', 'Revokes a key for good'],
  ['post', '/admin/v1/keys/{id}/rotate', 'A new secret for a key', RotateKeyRequest],
  ['get', '/admin/v1/keys/{id}/usage', 'What a key has used'],
  ['get', '/admin/v1/nodes', 'The gpu nodes, with what they serve and whether they are suspended'],
]

type Operation = readonly [method: string, path: string, summary: string, body?: z.ZodType]

const ERROR_SCHEMA = {
  type: 'object',
  required: ['error'],
  properties: {
    error: {
      type: 'object',
      required: ['message', 'type', 'param', 'code'],
      properties: {
        message: { type: 'string' },
        type: { type: 'string' },
        param: { type: ['string', 'null'], description: 'path of the field at fault' },
        code: { type: 'string', enum: Object.keys(ERROR_CODES) },
      },
    },
  },
}

/** The OpenAPI 3.1 document of the edge, made from the schemas that validate requests. */
export function openApiDocument(version: string) {
  const paths: Record<string, Record<string, unknown>> = {}
  for (const operation of OPERATIONS) {
    const [method, path] = operation
    paths[path] = { ...paths[path], [method]: describe(operation) }
  }
  return {
    openapi: '3.1.0',
    info: { title: 'apar', version, description: 'Language models that decode in parallel branches' },
    paths,
    components: {
      schemas: { Error: ERROR_SCHEMA },
      securitySchemes: {
        apiKey: { type: 'http', scheme: 'bearer', description: 'an API key, or a token (JWT)' },
        adminKey: { type: 'http', scheme: 'bearer', description: "the operator's ADMIN_KEY" },
      },
    },
  }
}

function describe([, path, summary, body]: Operation) {
  const parameters = path.includes('{id}') && {
    parameters: [{ name: 'id', in: 'path', required: true, schema: { type: 'string' } }],
  }
  const json = body && { schema: jsonSchemaOf(body) }
  return {
    summary,
    ...parameters,
    ...(json && { requestBody: { required: true, content: { 'application/json': json } } }),
    responses: {
      '2XX': { description: 'as docs/api.md says' },
      default: {
        description: 'an error',
        content: { 'application/json': { schema: { $ref: '#/components/schemas/Error' } } },
      },
    },
    security: [path.startsWith('/admin/') ? { adminKey: [] } : { apiKey: [] }],
  }
}
