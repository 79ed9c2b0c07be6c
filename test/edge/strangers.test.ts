import { env } from 'cloudflare:test'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { createApp } from '../../edge/app.ts'
import type { Env } from '../../edge/env.ts'
import { addressSocketsOf } from '../../edge/keys/address-sockets.ts'
import { sha256, toHex } from '../../edge/keys/credentials.ts'
import { newSalt } from '../../edge/keys/key-secrets.ts'
import { keyStoreOf } from '../../edge/keys/key-store.ts'
import { ApiKeyRecord } from '../../shared/api-keys.ts'
import { admin, Client, call, KEY, newKey } from './support.ts'

afterEach(() => {
  vi.useRealTimers()
})

/** A namespace that counts the objects that are asked for. */
function counted(namespace: DurableObjectNamespace) {
  const names: string[] = []
  const get = (target: DurableObjectNamespace, property: keyof DurableObjectNamespace) => {
    const value = Reflect.get(target, property)
    if (typeof value !== 'function') return value
    return (...args: unknown[]) => {
      if (property === 'get' || property === 'getByName') names.push(String(args[0]))
      return Reflect.apply(value, target, args)
    }
  }
  return { names, namespace: new Proxy(namespace, { get }) as DurableObjectNamespace }
}

async function ask(path: string, headers: Record<string, string>, bindings: Partial<Env> = {}) {
  return await createApp().fetch(new Request(`http://edge${path}`, { headers }), { ...env, ...bindings })
}

function bearer(key: string) {
  return { authorization: `Bearer ${key}` }
}

async function codeOf(response: Response): Promise<string> {
  return (await response.json<{ error: { code: string } }>()).error.code
}

/** A key as edges from before made them: its secret has no MAC. */
async function keyFromBefore(id: string): Promise<string> {
  const [secret, salt] = ['o'.repeat(32), newSalt()]
  const hash = toHex(new Uint8Array(await sha256(salt + secret)))
  expect(await keyStoreOf(env).create(ApiKeyRecord.parse({ id, salt, hash }))).toBe(true)
  return `apar_${id}_${secret}`
}

async function idsWithoutMac(): Promise<string[]> {
  return (await keyStoreOf(env).checkData()).unsigned.map(({ id }) => id)
}

describe('a stranger', () => {
  const random = 'r'.repeat(32)

  it.each([
    ['an unknown id', `apar_nobody_${random}`],
    ['an unknown id and a secret as long as ours', `apar_nobody_${random}${'m'.repeat(22)}`],
    ['a known id and a wrong secret', `apar_test_${random}`],
  ])('with %s reaches no object', async (_, key) => {
    const { names, namespace } = counted(env.KEY_LIMITS)
    const response = await ask('/v1/models', bearer(key), { KEY_LIMITS: namespace })
    expect([response.status, await codeOf(response)]).toEqual([401, 'invalid_api_key'])
    expect(names).toEqual([])
    expect((await ask('/v1/models', bearer(KEY), { KEY_LIMITS: namespace })).status).toBe(200)
    expect(names).toEqual(['key:test'])
  })

  it('with the secret of another key, or a changed one, reaches no object', async () => {
    const [one, other] = [await newKey(), await newKey()]
    const secretOf = (key: string) => key.split('_').slice(2).join('_')
    const { names, namespace } = counted(env.KEY_LIMITS)
    const changed = one.key.replace(/.$/, (last) => (last === 'A' ? 'Q' : 'A'))
    for (const key of [`apar_${one.id}_${secretOf(other.key)}`, changed])
      expect((await ask('/v1/models', bearer(key), { KEY_LIMITS: namespace })).status).toBe(401)
    expect(names).toEqual([])
  })

  it('with a ticket that was not made here reaches no object', async () => {
    const made = await call('/v1/tickets', { method: 'POST' })
    const { ticket } = await made.json<{ ticket: string }>()
    const [name = '', rest = ''] = ticket.split('.')
    const { names, namespace } = counted(env.KEY_LIMITS)
    const forged = [
      `${btoa('key:slow')}.${rest}`,
      `${name}.${'0'.repeat(48)}${rest.slice(48)}`,
      `${name}.${rest.slice(0, 48)}`,
      `${name}.${rest.slice(0, 48)}${'A'.repeat(22)}`,
    ]
    for (const text of forged) {
      const headers = { upgrade: 'websocket' }
      const response = await ask(`/v1/stream?ticket=${text}`, headers, { KEY_LIMITS: namespace })
      expect(response.status).toBe(401)
    }
    expect(names).toEqual([])
  })

  it('who guesses names of streams reaches no session', async () => {
    const { names, namespace } = counted(env.STREAM_SESSION)
    const bindings = { STREAM_SESSION: namespace }
    const guess = '0123456789abcdef'.repeat(4)
    const handshake = { ...bearer(KEY), upgrade: 'websocket' }
    const resumed = await ask(`/v1/stream?stream=${guess}&after=0`, handshake, bindings)
    expect(await codeOf(resumed)).toBe('stream_not_found')
    const real = env.STREAM_SESSION.newUniqueId().toString()
    const stranger = { ...bearer(`apar_nobody_${random}`), upgrade: 'websocket' }
    expect((await ask(`/v1/stream?stream=${real}&after=0`, stranger, bindings)).status).toBe(401)
    expect(names).toEqual([])
  })

  it('does not have its body read', async () => {
    let pulled = 0
    const body = new ReadableStream(
      {
        pull: (controller) => {
          pulled++
          controller.enqueue(new Uint8Array(1024))
        },
      },
      { highWaterMark: 0 },
    )
    const request = new Request('http://edge/v1/chat/completions', {
      method: 'POST',
      body,
      headers: bearer(`apar_nobody_${random}`),
    })
    expect((await createApp().fetch(request, env)).status).toBe(401)
    expect(pulled).toBe(0)
  })
})

describe('keys from before', () => {
  it('work until they are rotated, and then leave the set of keys without a MAC', async () => {
    vi.useFakeTimers({ toFake: ['Date'] })
    const old = await keyFromBefore('from-before')
    // Workers read the set once a minute, and use the older one meanwhile.
    vi.setSystemTime(Date.now() + 60_000)
    await vi.waitFor(async () => expect((await call('/v1/models', { key: old })).status).toBe(200))
    expect(await idsWithoutMac()).toContain('from-before')

    const rotate = async (grace_seconds: number) => {
      const response = await admin('/from-before/rotate', { method: 'POST', json: { grace_seconds } })
      return (await response.json<{ key: string }>()).key
    }
    const second = await rotate(3600)
    for (const key of [old, second]) expect((await call('/v1/models', { key })).status).toBe(200)
    const third = await rotate(7200)
    expect(await idsWithoutMac()).toContain('from-before')
    // Both older secrets are still in their grace time, until the old one is not.
    vi.setSystemTime(Date.now() + 7201_000)
    expect(await idsWithoutMac()).not.toContain('from-before')
    expect((await call('/v1/models', { key: third })).status).toBe(200)
    expect((await call('/v1/models', { key: old })).status).toBe(401)
  })

  it('stay in the set when they are changed, and new ones never come into it', async () => {
    await keyFromBefore('changed-before')
    const made = await newKey()
    for (const id of ['changed-before', made.id])
      await admin(`/${id}`, { method: 'PATCH', json: { scopes: ['models'] } })
    await admin(`/${made.id}/rotate`, { method: 'POST', json: { grace_seconds: 60 } })
    expect(await idsWithoutMac()).toContain('changed-before')
    expect(await idsWithoutMac()).not.toContain(made.id)
  })
})

describe('an address', () => {
  const usedUp = { IP_RATE_LIMIT: { limit: async () => ({ success: false }) } }

  it('with too many refused requests gets 429, and its valid callers do not notice', async () => {
    const refused = await ask('/v1/models', bearer(`apar_nobody_${'r'.repeat(32)}`), usedUp)
    expect([refused.status, refused.headers.get('retry-after')]).toEqual([429, '10'])
    expect((await ask('/v1/models', bearer('no-key'), usedUp)).status).toBe(429)
    expect((await ask('/admin/v1/keys', bearer('guess'), usedUp)).status).toBe(429)
    expect((await ask('/v1/models', bearer(KEY), usedUp)).status).toBe(200)
  })

  it.each([
    ['192.0.2.7', {}, 'refused 192.0.2.7'],
    [' 192.0.2.7 ', {}, 'refused 192.0.2.7'],
    ['2001:db8:1:2:3:4:5:6', {}, 'refused 2001:db8:1:2'],
    ['2001:DB8:1:02::9', {}, 'refused 2001:db8:1:2'],
    ['2001:db8::9', {}, 'refused 2001:db8:0:0'],
    ['::1', {}, 'refused 0:0:0:0'],
    ['::ffff:203.0.113.7', {}, 'refused 203.0.113.7'],
    ['::FFFF:203.0.113.8', {}, 'refused 203.0.113.8'],
    ['0:0:0:0:0:ffff:cb00:7108', {}, 'refused 203.0.113.8'],
    ['not:an:address', {}, 'refused not:an:address'],
    ['192.0.2.7', { CLIENT_ADDRESS_HEADER: '' }, 'refused unknown'],
    ['192.0.2.7', { CLIENT_ADDRESS_HEADER: 'x-real-ip' }, 'refused unknown'],
  ])('%o with %o pays as %s', async (address, settings, key) => {
    const limit = vi.fn(async () => ({ success: true }))
    const headers = { ...bearer('no-key'), 'cf-connecting-ip': address }
    await ask('/v1/models', headers, { IP_RATE_LIMIT: { limit }, ...settings })
    expect(limit.mock.calls).toEqual([[{ key }]])
  })
})

describe('open sockets', () => {
  const open = (key: string, protocol: string, more: Record<string, string> = {}) =>
    call('/v1/stream', {
      key,
      headers: { upgrade: 'websocket', 'sec-websocket-protocol': protocol, ...more },
    })

  it('are counted for their key, shared ones too, and closing one makes room', async () => {
    const { key } = await newKey({ limits: { concurrent_sockets: 2 } })
    const single = await Client.open('', key)
    const shared = await Client.open('', key, 'apar.mux.v1')
    for (const protocol of ['apar.v1', 'apar.mux.v1']) {
      const refused = await open(key, protocol)
      expect([refused.status, refused.headers.get('retry-after')]).toEqual([429, '1'])
      expect(await codeOf(refused)).toBe('too_many_streams')
    }
    // Others are not affected, nor are calls without a socket.
    expect((await call('/v1/models', { key })).status).toBe(200)
    const other = await Client.open()
    for (const client of [single, other]) client.close()
    const again = await vi.waitFor(() => Client.open('', key))
    for (const client of [shared, again]) client.close()
  })

  it('are given back when the handshake is refused after all', async () => {
    const { key } = await newKey({ limits: { concurrent_sockets: 1 } })
    for (let times = 0; times < 3; times++)
      await vi.waitFor(async () => expect((await open(key, 'unknown')).status).toBe(400))
    const { key: reader } = await newKey({ scopes: ['models'], limits: { concurrent_sockets: 1 } })
    for (let times = 0; times < 3; times++)
      await vi.waitFor(async () => expect((await open(reader, 'apar.v1')).status).toBe(403))
  })

  it('are counted for their address', async () => {
    const address = '198.51.100.9'
    const object = addressSocketsOf(env, address)
    for (let socket = 0; socket < 2_000; socket++) await object.takeSocket(`other-${socket}`)
    const refused = await open(KEY, 'apar.v1', { 'cf-connecting-ip': address })
    expect(await codeOf(refused)).toBe('too_many_streams')
    const elsewhere = await open(KEY, 'apar.v1', { 'cf-connecting-ip': '198.51.100.10' })
    expect(elsewhere.status).toBe(101)
    elsewhere.webSocket?.accept()
    elsewhere.webSocket?.close()
    await object.releaseSocket('other-7')
    const welcome = await open(KEY, 'apar.v1', { 'cf-connecting-ip': address })
    expect(welcome.status).toBe(101)
    welcome.webSocket?.accept()
    welcome.webSocket?.close()
  })
})

describe('a body', () => {
  const send = (encoding: string) =>
    call('/v1/chat/completions', { method: 'POST', json: {}, headers: { 'content-encoding': encoding } })

  it.each(['br', 'deflate', 'gzip, identity'])('with content-encoding %s → 415', async (encoding) => {
    const response = await send(encoding)
    expect([response.status, response.headers.get('accept-encoding')]).toEqual([415, 'gzip, identity'])
    expect(await response.json()).toMatchObject({
      error: { code: 'unsupported_encoding', message: expect.stringContaining(JSON.stringify(encoding)) },
    })
  })

  it('with content-encoding identity is read', async () => {
    expect(await codeOf(await send('identity'))).toBe('invalid_request')
  })
})
