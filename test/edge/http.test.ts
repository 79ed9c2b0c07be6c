import { env, SELF } from 'cloudflare:test'
import { describe, expect, it, vi } from 'vitest'
import { createApp } from '../../edge/app.ts'
import { configuredKeys } from '../../edge/keys/configured-keys.ts'
import { withBodyTimeout } from '../../edge/middleware/request-body.ts'
import { call, deregister, KEY, register } from './support.ts'

async function errorBody(response: Response) {
  const { error } = await response.json<{ error: Record<string, unknown> }>()
  return error
}

describe('API keys', () => {
  it.each([
    ['none', {}],
    ['another scheme', { authorization: `Basic ${KEY}` }],
    ['an unknown id', { authorization: `Bearer apar_nobody_${'s'.repeat(32)}` }],
    ['a wrong secret', { authorization: `Bearer apar_test_${'t'.repeat(32)}` }],
    ['a text that is no key', { authorization: 'Bearer hello' }],
  ])('%s → 401', async (_, headers: Record<string, string>) => {
    const response = await SELF.fetch('http://edge/v1/models', { headers })
    expect(response.status).toBe(401)
    expect(response.headers.get('www-authenticate')).toBe('Bearer')
    expect(await errorBody(response)).toMatchObject({ code: 'invalid_api_key', type: 'authentication_error' })
  })

  it('accepts a valid key', async () => {
    expect((await call('/v1/models')).status).toBe(200)
  })

  it('are all refused when the configuration is invalid', () => {
    expect(() => configuredKeys('[{"id":"x"}]')).toThrow('the API_KEYS secret is not a valid list of keys')
  })
})

it('hides the details of an internal error', async () => {
  const log = vi.spyOn(console, 'error').mockImplementation(() => {})
  const request = new Request('http://edge/v1/models', { headers: { authorization: `Bearer ${KEY}` } })
  const response = await createApp().fetch(request, { ...env, FLEET: 'no such thing' })
  expect(response.status).toBe(500)
  expect(await errorBody(response)).toEqual({
    message: 'internal error',
    type: 'server_error',
    param: null,
    code: 'internal_error',
  })
  expect(log.mock.calls[0]?.[0]).toContain('getByName')
  log.mockRestore()
})

describe('paths and methods', () => {
  it('answers an unknown path with an error object', async () => {
    const response = await call('/v2/nothing')
    expect(response.status).toBe(404)
    expect(await errorBody(response)).toMatchObject({ code: 'not_found' })
  })

  it.each([
    ['POST', '/v1/models', 'GET'],
    ['GET', '/v1/chat/completions', 'POST'],
    ['DELETE', '/', 'GET'],
  ])('%s %s → 405', async (method, path, allow) => {
    const response = await call(path, { method })
    expect(response.status).toBe(405)
    expect(response.headers.get('allow')).toBe(allow)
    expect(await errorBody(response)).toMatchObject({ code: 'method_not_allowed' })
  })

  it('refuses a large body, with and without a length', async () => {
    const large = 'x'.repeat(2 * 1024 * 1024 + 1)
    const chunked = new Blob([large]).stream()
    for (const body of [large, chunked]) {
      const response = await call('/v1/chat/completions', { method: 'POST', body })
      expect(response.status).toBe(413)
      expect(await errorBody(response)).toMatchObject({ code: 'body_too_large' })
    }
  })

  it.each([
    ['without a length', {}],
    ['with one', { 'content-length': '100' }],
  ])('does not log a client that disconnects before the end of its body, %s', async (_, headers) => {
    const logged = vi.spyOn(console, 'error')
    const body = new ReadableStream({
      start: (controller) => controller.enqueue(new TextEncoder().encode('{"model": ')),
      pull: (controller) => controller.error(new Error('gone')),
    })
    const init = { method: 'POST', body, headers: { ...headers, authorization: `Bearer ${KEY}` } }
    const response = await createApp().fetch(new Request('http://edge/v1/chat/completions', init), env)
    expect(response.status).toBe(499)
    expect(await errorBody(response)).toMatchObject({ code: 'connection_closed' })
    expect(logged).not.toHaveBeenCalled()
    logged.mockRestore()
  })

  it('limits the time for a body', async () => {
    const never = new Promise<string>(() => {})
    await expect(withBodyTimeout(never, 5)).rejects.toMatchObject({ code: 'request_timeout', status: 408 })
  })

  it('gives every response an id', async () => {
    const ids = await Promise.all(
      ['/healthz', '/v1/models', '/nothing'].map(async (path) =>
        (await call(path)).headers.get('x-request-id'),
      ),
    )
    expect(new Set(ids).size).toBe(3)
    expect(ids).not.toContain(null)
  })
})

describe('the chat page', () => {
  it('needs no key and allows only its own script and style', async () => {
    const response = await SELF.fetch('http://edge/')
    expect(response.status).toBe(200)
    expect(response.headers.get('content-type')).toBe('text/html; charset=utf-8')
    const policy = response.headers.get('content-security-policy')
    expect(policy).toContain("default-src 'none'")
    expect(policy).toContain("script-src 'self'")
    expect(policy).not.toContain('unsafe')
    expect(response.headers.get('x-content-type-options')).toBe('nosniff')
    expect(response.headers.get('referrer-policy')).toBe('no-referrer')
    const html = await response.text()
    for (const [, path] of html.matchAll(/(?:src|href)="(\/[^"]+)"/g)) {
      expect((await SELF.fetch(`http://edge${path}`)).status).toBe(200)
    }
  })

  it.each(['/', '/chat.js', '/chat.css'])('does not send %s again to a browser that has it', async (path) => {
    const first = await SELF.fetch(`http://edge${path}`)
    const etag = first.headers.get('etag') ?? ''
    expect(etag).not.toBe('')
    const second = await SELF.fetch(`http://edge${path}`, { headers: { 'if-none-match': etag } })
    expect([second.status, await second.text()]).toEqual([304, ''])
    // The browser shows what it has under the policy of this answer.
    const policy = first.headers.get('content-security-policy')
    expect(second.headers.get('content-security-policy')).toBe(policy)
    expect(policy).toContain("script-src 'self'")
    const other = await SELF.fetch(`http://edge${path}`, { headers: { 'if-none-match': '"other"' } })
    expect(other.status).toBe(200)
  })
})

describe('every response', () => {
  it.each(['/healthz', '/v1/models', '/nothing', '/openapi.json'])(
    'from %s has the security headers and is not cached',
    async (path) => {
      const { headers } = await call(path)
      expect(Object.fromEntries(headers)).toMatchObject({
        'cache-control': 'no-store',
        'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
        'cross-origin-resource-policy': 'same-origin',
        'referrer-policy': 'no-referrer',
        'x-content-type-options': 'nosniff',
      })
      expect(headers.has('strict-transport-security')).toBe(false)
      // The server's software is not disclosed.
      expect(headers.get('server') ?? headers.get('x-powered-by')).toBeNull()
    },
  )

  it('over TLS has Strict-Transport-Security', async () => {
    const { headers } = await SELF.fetch('https://edge/healthz')
    expect(headers.get('strict-transport-security')).toBe('max-age=31536000')
  })
})

it('refuses an IP address with too many refused requests', async () => {
  const IP_RATE_LIMIT = { limit: async () => ({ success: false }) }
  const response = await createApp().fetch(new Request('http://edge/v1/models'), { ...env, IP_RATE_LIMIT })
  expect(response.status).toBe(429)
  expect(response.headers.get('retry-after')).toBe('10')
  expect(await errorBody(response)).toMatchObject({ code: 'rate_limit_exceeded' })
})

it('is ready while there is a gpu node', async () => {
  const ready = async () => {
    const response = await SELF.fetch('http://edge/readyz')
    return [response.status, await response.json()]
  }
  await register('readiness')
  expect(await ready()).toEqual([200, { status: 'ready', reasons: [] }])
  await deregister('readiness')
  expect(await ready()).toEqual([503, { status: 'not_ready', reasons: ['no_gpu_node'] }])
})

it('is healthy without a key', async () => {
  expect(await (await SELF.fetch('http://edge/healthz')).json()).toEqual({ status: 'ok' })
})
