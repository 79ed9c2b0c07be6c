import { z } from 'zod'
import { jsonSchemaOf as requestSchemaOf } from '../../shared/requests/json-schema.ts'
import { type Access, OPERATIONS, type Operation } from './operations.ts'
import type { Parameter } from './parameters.ts'
import { ANSWERS, jsonSchemaOf } from './schemas.ts'

const REASONS: Readonly<Record<number, string>> = {
  101: 'the WebSocket is open',
  200: 'the answer',
  201: 'made',
  204: 'done',
  400: 'the request is not valid',
  401: 'no valid credential',
  403: 'the credential may not do that',
  404: 'there is no such thing',
  408: 'the body did not arrive in time',
  409: 'another call is in the way',
  413: 'the body is too large',
  415: 'the encoding of the body is not supported',
  426: 'only a WebSocket can be opened here',
  429: 'a limit was reached',
  500: 'an error of the server',
  502: 'the gpu node was lost',
  503: 'not possible at the moment',
}

const SECURITY: Readonly<Record<Access, readonly object[]>> = {
  anybody: [],
  key: [{ bearer: [] }, { xApiKey: [] }, { apiKey: [] }],
  socket: [{ bearer: [] }, { xApiKey: [] }, { apiKey: [] }, { ticket: [] }],
  admin: [{ adminKey: [] }],
  metrics: [{ metricsSecret: [] }],
}

const SECURITY_SCHEMES = {
  bearer: { type: 'http', scheme: 'bearer', description: 'an API key, or a token (JWT)' },
  xApiKey: { type: 'apiKey', in: 'header', name: 'x-api-key', description: 'the same' },
  apiKey: { type: 'apiKey', in: 'header', name: 'api-key', description: 'the same' },
  ticket: { type: 'apiKey', in: 'query', name: 'ticket', description: 'of POST /v1/tickets' },
  adminKey: { type: 'http', scheme: 'bearer', description: "the operator's ADMIN_KEY" },
  metricsSecret: { type: 'http', scheme: 'bearer', description: 'METRICS_SECRET, or ADMIN_KEY' },
}

/** Errors that the check of each credential has. */
const ACCESS_ERRORS: Readonly<Record<Access, readonly number[]>> = {
  anybody: [],
  key: [401, 403, 429],
  socket: [401, 403, 429],
  admin: [401, 429],
  metrics: [401, 429],
}

/** The OpenAPI 3.1 document of the edge, made from the schemas that validate requests. */
export function openApiDocument(version: string) {
  const paths: Record<string, Record<string, unknown>> = {}
  for (const operation of OPERATIONS) {
    const { path, method } = operation
    paths[path] = { ...paths[path], [method]: describe(operation) }
  }
  const schemas = Object.entries(ANSWERS).map(([name, schema]) => [name, jsonSchemaOf(schema, 'output')])
  return {
    openapi: '3.1.0',
    info: { title: 'apar', version, description: 'Language models that decode in parallel branches' },
    paths,
    components: { schemas: Object.fromEntries(schemas), securitySchemes: SECURITY_SCHEMES },
  }
}

function describe({
  id,
  summary,
  access,
  body,
  optionalBody,
  parameters,
  errors = [],
  ...operation
}: Operation) {
  const { path, status = 200 } = operation
  const refusals = [...new Set([...ACCESS_ERRORS[access], ...errors])].sort()
  return {
    operationId: id,
    summary,
    ...(parameters && { parameters: parameters.map(toParameter) }),
    ...(body && {
      requestBody: {
        required: optionalBody !== true,
        content: { 'application/json': { schema: bodySchemaOf({ body, access }) } },
      },
    }),
    responses: {
      [status]: answerOf(operation),
      ...Object.fromEntries(refusals.map((code) => [code, errorOf(path, REASONS[code])])),
      default: errorOf(path),
    },
    security: SECURITY[access],
  }
}

/** Bodies of operators are read as they are: null is no absent field there. */
function bodySchemaOf({ body, access }: Pick<Operation, 'body' | 'access'>) {
  if (!body) return undefined
  const { $schema: _, ...schema } =
    access === 'admin' ? z.toJSONSchema(body, { io: 'input' }) : requestSchemaOf(body)
  return schema
}

function toParameter({ schema, ...parameter }: Parameter) {
  return { ...parameter, schema: jsonSchemaOf(schema, 'input') }
}

function answerOf({ status = 200, answers = [], events, type }: Partial<Operation>) {
  const schemas = answers.map(reference)
  const schema = schemas.length > 1 ? { anyOf: schemas } : schemas[0]
  const content = {
    ...(schema && { [type ?? 'application/json']: { schema } }),
    ...(type !== undefined && !schema && { [type]: { schema: { type: 'string' } } }),
    ...(events && { 'text/event-stream': { schema: eventOf(events) } }),
  }
  return { description: REASONS[status] ?? '', ...(Object.keys(content).length > 0 && { content }) }
}

/** Of OpenAI's older APIs; the others have an event for the end. */
const ENDING_WITH_DONE = ['ChatCompletionChunk', 'Completion']

/** One server-sent event: OpenAPI before 3.2 has no word for a stream of them. */
function eventOf(events: string) {
  const content = { anyOf: [reference(events), reference('Error')] }
  const json = { type: 'string', contentMediaType: 'application/json', contentSchema: content }
  const data = ENDING_WITH_DONE.includes(events) ? { anyOf: [{ const: '[DONE]' }, json] } : json
  const properties = { event: { type: 'string' }, id: { type: 'string' }, data }
  return { type: 'object', description: 'with stream: true; each event', required: ['data'], properties }
}

function errorOf(path: string, description = 'an error') {
  const openAi = reference('Error')
  const anthropic = reference('MessagesError')
  const isMessages = path.startsWith('/v1/messages')
  const schema = isMessages ? anthropic : { anyOf: [openAi, anthropic] }
  return { description, content: { 'application/json': { schema } } }
}

function reference(name: string) {
  return { $ref: `#/components/schemas/${name}` }
}
