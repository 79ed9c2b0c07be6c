import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import type { ErrorBody } from '../../shared/errors.ts'
import { type Stack, startStack } from './stack.ts'

let stack: Stack
beforeAll(async () => {
  stack = await startStack({ requestsPerMinute: 8 })
})
afterAll(async () => {
  await stack?.close()
})

const body = { model: 'demo', messages: [{ role: 'user', content: 'hi' }], max_tokens: 4 }

function post(content: unknown, key = stack.key): Promise<Response> {
  return fetch(`${stack.url}/v1/chat/completions`, {
    method: 'POST',
    headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
    body: typeof content === 'string' ? content : JSON.stringify(content),
  })
}

const errorOf = async (response: Response) => ((await response.json()) as ErrorBody).error

// In this order, since each request takes one of the key's eight per minute.
describe.sequential('over HTTP', () => {
  test('a wrong key is 401', async () => {
    const response = await post(body, 'apar_test_wrongwrongwrongwrong')
    expect(response.status).toBe(401)
    expect(await errorOf(response)).toMatchObject({ code: 'invalid_api_key', type: 'authentication_error' })
  })

  test('a bad body is 400 with the field’s path', async () => {
    const response = await post({ ...body, messages: [{ role: 'user', content: 7 }] })
    expect(response.status).toBe(400)
    expect(await errorOf(response)).toMatchObject({ code: 'invalid_request', param: 'messages.0.content' })
    expect((await errorOf(await post('{'))).code).toBe('invalid_json')
  })

  test('an unknown model is 404', async () => {
    const response = await post({ ...body, model: 'nope' })
    expect(response.status).toBe(404)
    expect(await errorOf(response)).toMatchObject({ code: 'model_not_found', param: 'model' })
  })

  test('an answer has its usage', async () => {
    const response = await post(body)
    expect(response.status).toBe(200)
    expect(await response.json()).toMatchObject({ model: 'demo', usage: { completion_tokens: 4 } })
  })

  test('a wrong node secret is 401', async () => {
    const options = { method: 'DELETE', headers: { authorization: 'Bearer wrong' } }
    expect((await fetch(`${stack.url}/internal/v1/nodes/x`, options)).status).toBe(401)
  })

  test('without a node the answer is 503 with Retry-After', async () => {
    await stack.node.close()
    const response = await post(body)
    expect(response.status).toBe(503)
    expect(await errorOf(response)).toMatchObject({ code: 'no_gpu_node' })
    expect(Number(response.headers.get('retry-after'))).toBeGreaterThan(0)
  })

  test('too many requests are 429 with Retry-After', async () => {
    await vi.waitFor(async () => expect((await post(body)).status).toBe(429), {
      timeout: 20_000,
      interval: 10,
    })
    const response = await post(body)
    expect(await errorOf(response)).toMatchObject({ code: 'rate_limit_exceeded', type: 'rate_limit_error' })
    expect(Number(response.headers.get('retry-after'))).toBeGreaterThan(0)
  })
})
