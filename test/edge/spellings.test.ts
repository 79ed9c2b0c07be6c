import { env, SELF } from 'cloudflare:test'
import { afterAll, beforeEach, describe, expect, it } from 'vitest'
import { createApp } from '../../edge/app.ts'
import { gunzip } from '../../edge/middleware/body-encoding.ts'
import { accepted, call, deregister, done, heartbeat, KEY, register, request } from './support.ts'

const MODELS = ['a', 'b', 'c'].map((id) => ({ id, created: 1_700_000_000, context_tokens: 64 }))
const body = request([accepted, done()])

// Before each, because a lease ends after seconds.
beforeEach(async () => {
  await register('spellings')
  await register('models', heartbeat({ url: 'ws://127.0.0.1:1', models: MODELS }))
})
afterAll(async () => {
  await deregister('models')
})

function get(path: string, headers: Record<string, string>): Promise<Response> {
  return SELF.fetch(`http://edge${path}`, { headers })
}

describe('a path', () => {
  it.each([
    '/v1/chat/completions',
    '/v1/chat/completions/',
    '/chat/completions',
    '/chat/completions//',
    '//v1/chat/completions',
    '/v1//chat/completions',
    '//v1//chat///completions//',
    '/v1/chat/completions?api-version=2024-10-21',
    '/openai/v1/chat/completions?api-version=preview',
    '/openai/deployments/demo/chat/completions?api-version=2024-10-21',
  ])('%s is that of chat completions', async (path) => {
    const response = await call(path, { method: 'POST', json: body })
    expect(await response.json()).toMatchObject({ object: 'chat.completion' })
  })

  it.each([
    ...['/models', '/models/', '/v1/models/', '/v1/models/a/', '/models/a', '/v1//models'],
    // As AzureOpenAI asks for them.
    ...['/openai/models?api-version=2024-10-21', '/openai/models/a?api-version=2024-10-21'],
  ])('%s: models', async (path) => {
    expect((await call(path)).status).toBe(200)
  })

  it.each([
    '/v1',
    '/chat',
    '/v1/chat/completion',
    '/openai',
    '/openai/model',
    '/openai/health',
    '/v2/models',
    '/v1/v1/models',
  ])('%s is none', async (path) => {
    const response = await call(path)
    expect(await response.json()).toMatchObject({ error: { code: 'not_found' } })
  })

  it("'s responses are found where Azure's clients look for them", async () => {
    const json = { model: 'demo', input: JSON.stringify([accepted, done()]), store: false }
    const response = await call('/openai/responses?api-version=2025-04-01-preview', { method: 'POST', json })
    expect(await response.json()).toMatchObject({ object: 'response' })
  })

  it('of an operator has no other spelling', async () => {
    expect((await call('/openai/admin/v1/keys', { key: 'admin-key-of-the-tests' })).status).toBe(404)
  })
})

describe('a key', () => {
  it.each([
    { authorization: `Bearer ${KEY}` },
    { authorization: `bearer \t ${KEY} ` },
    { authorization: ` Bearer ${KEY}\t` },
    { 'api-key': KEY },
    { 'api-key': ` ${KEY} ` },
    { 'x-api-key': `\t${KEY} ` },
    { authorization: 'Bearer ', 'api-key': KEY },
    { authorization: '', 'x-api-key': '', 'api-key': KEY },
  ])('in %o is read', async (headers) => {
    expect((await get('/v1/models', headers)).status).toBe(200)
  })

  it.each([
    {},
    { 'api-key': '' },
    { 'api-key': 'Bearer' },
    { authorization: KEY },
    { authorization: `Bearer ${KEY} x` },
  ])('in %o is none', async (headers: Record<string, string>) => {
    expect((await get('/v1/models', headers)).status).toBe(401)
  })
})

describe('a body in gzip', () => {
  const send = (content: BodyInit, encoding = 'gzip') =>
    call('/v1/chat/completions', {
      method: 'POST',
      body: content,
      headers: { 'content-encoding': encoding },
    })
  const gzipped = (text: string) => {
    const stream = new Blob([text]).stream().pipeThrough(new CompressionStream('gzip'))
    return new Response(stream).bytes()
  }

  it.each(['gzip', 'GZIP', ' x-gzip '])('is read, called %s', async (encoding) => {
    const response = await send(await gzipped(JSON.stringify(body)), encoding)
    expect(await response.json()).toMatchObject({ object: 'chat.completion' })
  })

  it('is read without a length', async () => {
    const stream = new Blob([await gzipped(JSON.stringify(body))]).stream()
    expect((await send(stream)).status).toBe(200)
  })

  it('that becomes longer than a body may be is refused', async () => {
    const bomb = await gzipped(' '.repeat(64 * 1024 * 1024))
    expect(bomb.length).toBeLessThan(2 * 1024 * 1024)
    const response = await send(bomb)
    expect([response.status, await response.json()]).toMatchObject([
      413,
      { error: { code: 'body_too_large' } },
    ])
  })

  it('that is broken is refused, wherever it is', async () => {
    const whole = await gzipped(JSON.stringify(body))
    const broken = [new Uint8Array([1]), whole.subarray(0, -1), whole.subarray(0, 9)]
    broken.push(new Uint8Array([...whole, 0]))
    for (let at = 10; at < whole.length; at++) {
      const bytes = whole.slice()
      bytes[at] = (bytes[at] ?? 0) ^ 1
      broken.push(bytes)
    }
    for (const bytes of broken) expect(() => gunzip(bytes, 2 ** 20)).toThrow('the body is not valid gzip')
    const response = await send(whole.subarray(0, -1))
    expect(await response.json()).toMatchObject({
      error: { code: 'invalid_request', param: 'content-encoding' },
    })
  })
})

describe('in Anthropic’s form', () => {
  const headers = { 'anthropic-version': '2023-06-01' }
  const list = async (query = '') =>
    (await call(`/v1/models${query}`, { headers })).json<{ data: { id: string }[] }>()

  it('models have a page', async () => {
    const { data, ...page } = await list()
    expect(page).toEqual({ has_more: false, first_id: 'a', last_id: 'demo' })
    expect(data[0]).toEqual({
      ...{ type: 'model', id: 'a', display_name: 'a', created_at: '2023-11-14T22:13:20.000Z' },
      ...{ max_input_tokens: 64, max_tokens: 64, lifecycle: 'active' },
      ...{ capabilities: null, line: null, deprecated_at: null, retires_at: null },
    })
    expect(await (await call('/v1/models/a', { headers })).json()).toEqual(data[0])
  })

  it.each([
    ['?limit=2', ['a', 'b'], true],
    ['?limit=2&after_id=b', ['c', 'demo'], false],
    ['?limit=1&after_id=a', ['b'], true],
    ['?limit=1&before_id=c', ['b'], true],
    ['?before_id=b', ['a'], false],
    ['?before_id=a', [], false],
    ['?after_id=c&before_id=b', [], false],
  ])('%s pages', async (query, ids, has_more) => {
    const { data, ...page } = await list(query)
    expect(data.map(({ id }) => id)).toEqual(ids)
    expect(page).toEqual({ has_more, first_id: ids[0] ?? null, last_id: ids.at(-1) ?? null })
  })

  it.each([
    ['/v1/messages', 'POST', 400, 'invalid_request_error'],
    ['/v1/messages', 'GET', 405, 'invalid_request_error'],
    ['/v1/messages/batches', 'POST', 404, 'not_found_error'],
    ['/v1/models/none', 'GET', 404, 'not_found_error'],
    ['/v1/models?limit=0', 'GET', 400, 'invalid_request_error'],
    ['/v1/models?after_id=none', 'GET', 404, 'not_found_error'],
    ['/v1/nothing', 'GET', 404, 'not_found_error'],
  ])('the error of %s has the request’s id', async (path, method, status, type) => {
    const response = await call(path, { method, headers, ...(method === 'POST' && { json: {} }) })
    const id = response.headers.get('request-id')
    expect(id).toBe(response.headers.get('x-request-id'))
    expect([response.status, await response.json()]).toMatchObject([
      status,
      { type: 'error', error: { type, message: expect.any(String) }, request_id: id },
    ])
  })
})

it('models have the length of their context as vLLM calls it', async () => {
  expect(await (await call('/v1/models/a')).json()).toMatchObject({ max_model_len: 64, context_tokens: 64 })
})

it.each([
  ['/v1/responses/compact', 'conversations'],
  ['/v1/embeddings', 'embeddings'],
  ['/v1/images/generations', 'images'],
  ['/v1/audio/speech', 'audio'],
  ['/v1/audio/transcriptions/', 'audio'],
  ['/v1/chat/completions/chatcmpl-1', 'only responses are stored'],
  ['/v1/messages/batches', 'batches'],
])('%s says what is not supported', async (path, what) => {
  const response = await call(path, { method: 'POST', json: {} })
  expect([response.status, await response.json()]).toMatchObject([
    404,
    { error: { message: expect.stringContaining(what) } },
  ])
})

describe('/health', () => {
  it('needs no key, and tells whether requests can be served', async () => {
    expect(await (await get('/health', {})).json()).toEqual({ status: 'ok' })
    // Nodes of other tests may be registered in the real one.
    const FLEET = { getByName: () => ({ models: async () => [] }) }
    const response = await createApp().fetch(new Request('http://edge/health'), { ...env, FLEET })
    expect([response.status, await response.json()]).toMatchObject([503, { error: { code: 'no_gpu_node' } }])
  })
})
