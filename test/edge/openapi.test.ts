import { SELF } from 'cloudflare:test'
import { beforeAll, describe, expect, it } from 'vitest'
import { openApiDocument } from '../../edge/openapi/document.ts'
import { call, newKey } from './support.ts'

type Schema = { properties: Record<string, unknown>; additionalProperties?: boolean; required?: string[] }
interface Operation {
  operationId: string
  security: object[]
  responses: Record<string, { content?: Record<string, { schema?: object }> }>
  requestBody?: { content: { 'application/json': { schema: Schema } } }
}
const document = openApiDocument('v1')
const paths = document.paths as Record<string, Record<string, Operation>>
const operations = Object.entries(paths).flatMap(([path, methods]) =>
  Object.keys(methods).map((method) => [method.toUpperCase(), path] as const),
)

beforeAll(async () => {
  await newKey({ id: 'openapi' })
})

it('is served without a key', async () => {
  const response = await SELF.fetch('http://edge/openapi.json')
  expect(response.headers.get('content-type')).toContain('application/json')
  expect(await response.json()).toEqual(JSON.parse(JSON.stringify(document)))
})

describe('the document', () => {
  it.each(operations)('describes an operation that exists: %s %s', async (method, path) => {
    const real = path.replace('{id}', path.startsWith('/admin') ? 'openapi' : 'demo')
    const body = method === 'GET' ? {} : { body: '[]' }
    const stranger = await SELF.fetch(`http://edge${real}`, { method, ...body })
    const { security } = paths[path]?.[method.toLowerCase()] ?? {}
    if (security?.length === 0) expect(stranger.status).not.toBe(401)
    else expect(stranger.status).toBe(401)
    const wrong = await call(real, { method: 'OPTIONS', key: 'admin-key-of-the-tests' })
    // An existing path answers 405 with its methods, an unknown one 404.
    expect([204, 405]).toContain(wrong.status)
    if (wrong.status === 405) expect(wrong.headers.get('allow')).toContain(method)
  })

  it('names every operation, once', () => {
    const ids = Object.values(paths).flatMap((methods) =>
      Object.values(methods).map(({ operationId }) => operationId),
    )
    expect(ids).not.toContain(undefined)
    expect(new Set(ids).size).toBe(ids.length)
  })

  it('has no empty prefixItems, which JSON Schema does not allow', () => {
    expect(JSON.stringify(document)).not.toContain('"prefixItems":[]')
  })

  it('refers only to schemas that it has', () => {
    const schemas = Object.keys(document.components.schemas)
    const references = [...JSON.stringify(document).matchAll(/"#\/components\/schemas\/(\w+)"/g)]
    expect(references.length).toBeGreaterThan(0)
    for (const [, name] of references) expect(schemas).toContain(name)
  })

  it('describes the body of every answer, and the events of streams', () => {
    for (const methods of Object.values(paths)) {
      for (const { responses } of Object.values(methods)) {
        for (const [status, { content = {} }] of Object.entries(responses)) {
          if (status === '101' || status === '204') expect(content).toEqual({})
          else expect(Object.values(content)[0]?.schema).toBeDefined()
        }
      }
    }
    const { content = {} } = paths['/v1/messages']?.post?.responses['200'] ?? {}
    expect(Object.keys(content)).toEqual(['application/json', 'text/event-stream'])
  })

  it('has every field of a chat request, and no other', () => {
    const schema = paths['/v1/chat/completions']?.post?.requestBody?.content['application/json'].schema
    expect(schema?.additionalProperties).toBe(false)
    expect(schema?.required).toEqual(['messages'])
    for (const field of [
      'messages',
      'n',
      'seed',
      'logit_bias',
      'top_logprobs',
      'stream_options',
      'apar',
      'user',
    ]) {
      expect(Object.keys(schema?.properties ?? {})).toContain(field)
    }
  })
})
