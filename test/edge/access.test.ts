import { env, SELF } from 'cloudflare:test'
import { exportJWK, generateKeyPair, SignJWT } from 'jose'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { verifyJwt } from '../../edge/keys/jwt.ts'
import { TICKET_MS } from '../../edge/keys/key-limits.ts'
import {
  accepted,
  admin,
  Client,
  call,
  done,
  evict,
  framesSeenByNode,
  KEY,
  newKey,
  register,
  request,
} from './support.ts'

const SECRET = 'jwt-secret-of-the-tests-32-bytes'
const DENIED = 'invalid_api_key'

beforeEach(async () => {
  await register('access')
})

afterEach(() => {
  vi.useRealTimers()
  vi.restoreAllMocks()
})

async function codeOf(response: Response): Promise<string> {
  return (await response.json<{ error: { code: string } }>()).error.code
}

describe('tokens (JWT)', () => {
  interface Token {
    claims?: object
    audience?: string
    expires?: string
    secret?: string
    alg?: string
  }

  function token({ claims = {}, audience = 'apar', expires = '1m', secret = SECRET, alg = 'HS256' }: Token) {
    return new SignJWT({ sub: 'ann', ...claims })
      .setProtectedHeader({ alg })
      .setAudience(audience)
      .setExpirationTime(expires)
      .sign(new TextEncoder().encode(secret))
  }

  it('authenticate their subject, with its own limits and the default scopes', async () => {
    const key = await token({})
    const models = await call('/v1/models', { key })
    expect(models.status).toBe(200)
    expect(models.headers.get('x-ratelimit-limit-requests')).toBe('1000')
    expect(await codeOf(await call('/v1/usage', { key }))).toBe('insufficient_scope')
  })

  it('may carry scopes, models and limits', async () => {
    const claims = { sub: 'bob', scope: 'usage other', limits: { requests_per_minute: 2 } }
    const key = await token({ claims })
    const usage = await call('/v1/usage', { key })
    expect(await usage.json()).toMatchObject({ limits: { requests_per_minute: 2 } })
    expect(await codeOf(await call('/v1/models', { key }))).toBe('insufficient_scope')
    expect((await call('/v1/usage', { key })).status).toBe(429)
    const elsewhere = await token({ claims: { sub: 'eve', models: ['other'] } })
    const { data } = await (await call('/v1/models', { key: elsewhere })).json<{ data: unknown[] }>()
    expect(data).toEqual([])
  })

  it.each<[string, Token]>([
    ['for another audience', { audience: 'else' }],
    ['signed with another secret', { secret: SECRET.replace('jwt', 'xyz') }],
    ['that expired', { expires: '-1m' }],
    ['signed with another algorithm', { alg: 'HS512', secret: `${SECRET}${SECRET}` }],
    ['without a subject', { claims: { sub: undefined } }],
    ['with invalid limits', { claims: { limits: { requests_per_minute: 'many' } } }],
  ])('%s → 401', async (_, options) => {
    const response = await call('/v1/models', { key: await token(options) })
    expect(response.status).toBe(401)
    expect(await codeOf(response)).toBe(DENIED)
  })

  it('are refused when they are not signed', async () => {
    const part = (value: object) => btoa(JSON.stringify(value)).replaceAll('=', '')
    const claims = part({ sub: 'ann', aud: 'apar', exp: 4e9 })
    expect((await call('/v1/models', { key: `${part({ alg: 'none' })}.${claims}.` })).status).toBe(401)
    expect((await call('/v1/models', { key: `${part({ alg: 'none' })}.${claims}.x` })).status).toBe(401)
    const strange = part({ alg: 'HS256', crit: ['x'], x: 1 })
    expect((await call('/v1/models', { key: `${strange}.${claims}.x` })).status).toBe(401)
  })
})

describe('tokens signed with a key set (JWKS)', () => {
  const url = 'https://issuer.example/jwks.json'
  const settings = { ...env, JWT_JWKS_URL: url, JWT_ISSUER: 'https://issuer.example', JWT_AUDIENCE: 'apar' }

  async function issuer() {
    const { privateKey, publicKey } = await generateKeyPair('ES256', { extractable: true })
    const keys = [{ ...(await exportJWK(publicKey)), kid: 'k1', alg: 'ES256' }]
    const sign = (iss = 'https://issuer.example', kid = 'k1') =>
      new SignJWT({ sub: 'ann', iss, aud: 'apar' })
        .setProtectedHeader({ alg: 'ES256', ...(kid && { kid }) })
        .setExpirationTime('1m')
        .sign(privateKey)
    return { keys, sign }
  }

  it('are accepted only with a key of the set, which is fetched once', async () => {
    const { keys, sign } = await issuer()
    const fetched = vi.spyOn(globalThis, 'fetch').mockImplementation(async () => Response.json({ keys }))
    expect(await verifyJwt(settings, await sign())).toMatchObject({ id: 'jwt:ann' })
    expect(await verifyJwt(settings, await sign())).toMatchObject({ id: 'jwt:ann' })
    const stranger = await issuer()
    for (const bad of [
      await stranger.sign(),
      await sign('https://evil.example'),
      await sign(undefined, 'k2'),
    ]) {
      await expect(verifyJwt(settings, bad)).rejects.toMatchObject({ code: DENIED })
    }
    // A token signed with the public key as if it were a shared secret.
    const confused = await new SignJWT({ sub: 'ann' })
      .setProtectedHeader({ alg: 'HS256', kid: 'k1' })
      .setExpirationTime('1m')
      .sign(new TextEncoder().encode(JSON.stringify(keys[0])))
    await expect(verifyJwt(settings, confused)).rejects.toMatchObject({ code: DENIED })
    expect(fetched).toHaveBeenCalledOnce()
  })

  it('are refused when they do not name which of two keys signed them', async () => {
    const [one, other] = [await issuer(), await issuer()]
    vi.spyOn(globalThis, 'fetch').mockImplementation(async () =>
      Response.json({ keys: [...one.keys, { ...other.keys[0], kid: 'k2' }] }),
    )
    const two = { ...settings, JWT_JWKS_URL: 'https://two.example/jwks.json' }
    expect(await verifyJwt(two, await one.sign())).toMatchObject({ id: 'jwt:ann' })
    await expect(verifyJwt(two, await one.sign(undefined, ''))).rejects.toMatchObject({ code: DENIED })
  })

  it('get another error than invalid_api_key when the key set cannot be fetched', async () => {
    const { sign } = await issuer()
    vi.spyOn(globalThis, 'fetch').mockImplementation(async () => new Response('', { status: 503 }))
    const elsewhere = { ...settings, JWT_JWKS_URL: 'https://down.example/jwks.json' }
    const failing = verifyJwt(elsewhere, await sign())
    await expect(failing).rejects.not.toMatchObject({ code: DENIED })
    await expect(failing).rejects.toThrow()
  })
})

describe('tickets', () => {
  const open = (ticket: string) =>
    SELF.fetch(`http://edge/v1/stream?ticket=${ticket}`, { headers: { upgrade: 'websocket' } })

  async function newTicket(key = KEY): Promise<string> {
    const response = await call('/v1/tickets', { method: 'POST', key })
    expect(response.status).toBe(201)
    return (await response.json<{ ticket: string }>()).ticket
  }

  it('open one stream, once', async () => {
    const ticket = await newTicket()
    const answers = await Promise.all([open(ticket), open(ticket), open(ticket)])
    expect(answers.map(({ status }) => status).sort()).toEqual([101, 401, 401])
    for (const { webSocket } of answers) {
      webSocket?.accept()
      webSocket?.close()
    }
  })

  it('expire', async () => {
    vi.useFakeTimers({ toFake: ['Date'] })
    const ticket = await newTicket()
    vi.setSystemTime(Date.now() + TICKET_MS)
    const response = await open(ticket)
    expect(response.status).toBe(401)
    expect(await response.json()).toMatchObject({ error: { message: 'this ticket has expired' } })
  })

  it('are not valid for longer when the clock is set back', async () => {
    vi.useFakeTimers({ toFake: ['Date'] })
    const ticket = await newTicket()
    vi.setSystemTime(Date.now() - 3600_000)
    expect((await open(ticket)).status).toBe(401)
  })

  it('have no more rights than their key', async () => {
    const { id, key } = await newKey()
    const ticket = await newTicket(key)
    await admin(`/${id}`, { method: 'DELETE' })
    expect((await open(ticket)).status).toBe(401)
    const { key: reader } = await newKey({ scopes: ['models'] })
    expect((await call('/v1/tickets', { method: 'POST', key: reader })).status).toBe(403)
  })

  it('open nothing but a stream, and cannot be guessed', async () => {
    const ticket = await newTicket()
    expect((await SELF.fetch(`http://edge/v1/models?ticket=${ticket}`)).status).toBe(401)
    expect((await open(`${ticket.slice(0, -1)}${ticket.endsWith('0') ? '1' : '0'}`)).status).toBe(401)
    for (const nonsense of ['', 'x', '..', `%.${'0'.repeat(48)}`])
      expect((await open(nonsense)).status).toBe(401)
    const used = await open(ticket)
    expect(used.status).toBe(101)
    used.webSocket?.accept()
    used.webSocket?.close()
  })
})

describe('origins', () => {
  it.each([
    ['https://app.example', 'https://app.example'],
    ['https://other.example', 'https://other.example'],
    ['http://edge', 'http://edge'],
    ['https://evil.example', null],
    ['https://app.example.evil', null],
  ])('%s may read answers: %s', async (origin, allowed) => {
    const preflight = await SELF.fetch('http://edge/v1/chat/completions', {
      method: 'OPTIONS',
      headers: { origin, 'access-control-request-method': 'POST' },
    })
    const refusal = await SELF.fetch('http://edge/v1/models', { headers: { origin } })
    for (const response of [preflight, refusal]) {
      expect(response.headers.get('access-control-allow-origin')).toBe(allowed)
    }
    expect(preflight.status).toBe(204)
    expect(refusal.status).toBe(401)
    if (allowed) expect(refusal.headers.get('access-control-expose-headers')).toContain('retry-after')
  })

  it('that are not allowed may not open a stream', async () => {
    const open = (origin: string) => call('/v1/stream', { headers: { upgrade: 'websocket', origin } })
    expect(await codeOf(await open('https://evil.example'))).toBe('origin_not_allowed')
    const welcome = await open('https://app.example')
    expect(welcome.status).toBe(101)
    welcome.webSocket?.accept()
    welcome.webSocket?.close()
  })
})

describe('a key', () => {
  const complete = (key: string, fields: object = {}, steps: unknown[] = [accepted, done('stop', 7)]) =>
    call('/v1/chat/completions', { method: 'POST', json: request(steps, fields), key })

  interface Usage {
    tokens_today: number
    reserved_tokens: number
    open_streams: number
    days: { completion_tokens: number }[]
  }

  async function usageOf(key: string): Promise<Usage> {
    return (await call('/v1/usage', { key })).json()
  }

  it('may use only its models', async () => {
    const { key } = await newKey({ models: ['other'] })
    const response = await complete(key)
    expect(response.status).toBe(403)
    expect(await response.json()).toMatchObject({ error: { code: 'model_not_allowed', param: 'model' } })
    expect((await call('/v1/models/demo', { key })).status).toBe(404)
    expect((await call('/v1/models/demo')).status).toBe(200)
  })

  it('is checked before the body is validated', async () => {
    const bad = (key: string) => complete(key, { n: 0 })
    const { id, key } = await newKey({ limits: { requests_per_minute: 2 } })
    expect(await codeOf(await bad(`${key.slice(0, -1)}!`))).toBe(DENIED)
    expect(await codeOf(await bad(key.replace(/.{32}$/, 'z'.repeat(32))))).toBe(DENIED)
    const { key: reader } = await newKey({ scopes: ['usage'] })
    expect(await codeOf(await bad(reader))).toBe('insufficient_scope')
    const wrong = await bad(key)
    expect(wrong.status).toBe(400)
    expect(wrong.headers.get('x-ratelimit-remaining-requests')).toBe('1')
    expect((await complete(key)).status).toBe(200)
    expect((await bad(key)).status).toBe(429)
    expect(await (await admin(`/${id}/usage`)).json()).toMatchObject({ days: [{ requests: 2 }] })
  })

  it('is charged one request per call, whatever the result', async () => {
    const { id, key } = await newKey({ limits: { concurrent_streams: 1 }, models: ['demo'] })
    const answers = [
      complete(key, { apar: { resumable: true }, stream: true }),
      complete(key, { model: 'other' }),
    ]
    expect((await Promise.all(answers)).map(({ status }) => status)).toEqual([200, 403])
    expect((await complete(key, { n: 2 })).status).toBe(429)
    expect(await (await admin(`/${id}/usage`)).json()).toMatchObject({ days: [{ requests: 3 }] })
  })

  it('has each reservation settled to what the answer used', async () => {
    const { id, key } = await newKey({ limits: { tokens_per_minute: 5000, concurrent_streams: 2 } })
    const response = await complete(key, { max_tokens: 100 })
    expect(response.headers.get('x-ratelimit-limit-tokens')).toBe('5000')
    expect(Number(response.headers.get('x-ratelimit-remaining-tokens'))).toBeLessThan(4900)
    expect(response.status).toBe(200)
    await vi.waitFor(async () =>
      expect(await usageOf(key)).toMatchObject({
        tokens_today: 12,
        reserved_tokens: 0,
        open_streams: 0,
        days: [{ prompt_tokens: 5, cached_prompt_tokens: 2, completion_tokens: 7 }],
      }),
    )
    expect(await (await admin(`/${id}/usage`)).json()).toMatchObject({ tokens_today: 12 })
    const next = await complete(key, { max_tokens: 1 })
    expect(Number(next.headers.get('x-ratelimit-remaining-tokens'))).toBeGreaterThan(4000)
  })

  it('is charged for a stream whose client disconnected', async () => {
    const { key } = await newKey({ limits: { concurrent_streams: 1 } })
    const steps = [accepted, { type: 'delta', branch: 0, text: 'a' }, { await: 'frame' }, done('abort', 3)]
    const response = await complete(key, { stream: true }, steps)
    const reader = response.body?.getReader()
    await reader?.read()
    const refused = await complete(key)
    expect(refused.status).toBe(429)
    expect(await codeOf(refused)).toBe('too_many_streams')
    expect(refused.headers.get('retry-after')).toBe('1')
    await reader?.cancel()
    await vi.waitFor(async () =>
      expect(await usageOf(key)).toMatchObject({ tokens_today: 8, open_streams: 0 }),
    )
    expect((await complete(key)).status).toBe(200)
  })

  it('gets a stream slot back when the gpu node refuses or dies', async () => {
    vi.spyOn(console, 'error').mockImplementation(() => {})
    const { key } = await newKey({ limits: { concurrent_streams: 2 } })
    const refusal = { type: 'error', code: 'overloaded', message: 'full', param: null }
    expect((await complete(key, { n: 2 }, [refusal])).status).toBe(503)
    expect((await complete(key, { model: 'nope' })).status).toBe(404)
    const text = 'x'.repeat(40)
    const dying = [[accepted, { type: 'delta', branch: 0, text }, { die: true }], [{ die: true }]]
    expect((await complete(key, {}, dying)).status).toBe(502)
    await vi.waitFor(async () => expect(await usageOf(key)).toMatchObject({ open_streams: 0 }))
    // There is no `done` event with the usage: the text is estimated, 40 characters as 10 tokens.
    const [day] = (await usageOf(key)).days
    expect(day?.completion_tokens).toBe(10)
    expect((await complete(key, { n: 2 })).status).toBe(200)
    const tooMany = await complete(key, { n: 3 })
    expect(tooMany.headers.get('x-should-retry')).toBe('false')
    expect(tooMany.headers.get('retry-after')).toBeNull()
  })

  it('is not charged twice when a session is restarted', async () => {
    vi.spyOn(console, 'error').mockImplementation(() => {})
    const { key } = await newKey({ limits: { concurrent_streams: 1, tokens_per_day: 100_000 } })
    const client = await Client.open('', key)
    client.send({ type: 'generate', ...request([accepted, { hang: true }]) })
    const first = await client.next()
    const stream = first?.type === 'accepted' ? first.stream : ''
    const { reserved_tokens } = await usageOf(key)
    await evict(stream)
    const again = await Client.resume(stream, -1, key)
    expect(await again.next()).toMatchObject({ type: 'accepted' })
    expect(await usageOf(key)).toMatchObject({ open_streams: 1, reserved_tokens })
    again.close()
    await vi.waitFor(async () =>
      expect(await usageOf(key)).toMatchObject({ open_streams: 0, reserved_tokens: 0 }),
    )
  })

  it('has the same limits for WebSocket streams', async () => {
    const { key } = await newKey({ limits: { concurrent_streams: 1 }, models: ['demo'] })
    const open = async (steps: unknown[], fields: object = {}) => {
      const client = await Client.open('', key)
      client.send({ type: 'generate', ...request(steps, fields) })
      return client
    }
    const first = await open([accepted, { await: 'frame' }, done('abort', 4)])
    expect(await first.next()).toMatchObject({ type: 'accepted' })
    const second = await open([accepted, done()])
    expect(await second.rest()).toMatchObject([{ type: 'error', seq: 0, code: 'too_many_streams' }])
    first.send({ type: 'cancel' })
    expect((await first.rest()).at(-1)).toMatchObject({ type: 'done' })
    await vi.waitFor(async () =>
      expect(await usageOf(key)).toMatchObject({ tokens_today: 9, open_streams: 0 }),
    )
    const other = await open([accepted], { model: 'other' })
    expect(await other.rest()).toMatchObject([{ type: 'error', code: 'model_not_allowed' }])
  })

  it('is refused when its quota is used up', async () => {
    const { key } = await newKey({ limits: { tokens_per_day: 700 } })
    const tooLong = await complete(key, { max_tokens: 701 })
    expect(tooLong.status).toBe(429)
    expect(await codeOf(tooLong)).toBe('insufficient_quota')
    expect(tooLong.headers.get('x-should-retry')).toBe('false')
    const used = await complete(key, { max_tokens: 300 }, [accepted, done('stop', 300)])
    expect(used.status).toBe(200)
    await vi.waitFor(async () => expect((await usageOf(key)).tokens_today).toBe(305))
    const over = await complete(key, { max_tokens: 200 })
    expect(await over.json()).toMatchObject({
      error: { code: 'insufficient_quota', type: 'insufficient_quota' },
    })
    expect(Number(over.headers.get('retry-after'))).toBeGreaterThan(0)
  })

  it('bounds requests without max_tokens', async () => {
    const { key } = await newKey({ limits: { tokens_per_minute: 1000 } })
    const { id } = await (await complete(key)).json<{ id: string }>()
    const [start] = await framesSeenByNode(id.replace('chatcmpl-', ''))
    const { max_tokens } = (start?.request ?? {}) as { max_tokens?: number }
    expect(max_tokens).toBeGreaterThan(500)
    expect(max_tokens).toBeLessThan(1000)
  })
})
