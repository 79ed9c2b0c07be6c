import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { newApiKey } from '../../cli/keys.ts'
import { type LocalEdge, startLocalEdge } from '../../cli/local/edge.ts'
import { firstStatus, head, SMUGGLED, untilClosed } from '../support/raw-http.ts'

const { key, record } = newApiKey('raw', 100_000)
const authorization = `Authorization: Bearer ${key}`
let edge: LocalEdge
let port: number

beforeAll(async () => {
  edge = await startLocalEdge({ host: '127.0.0.1', port: 0, apiKeys: [record], nodeSecret: 'n'.repeat(32) })
  port = Number(new URL(edge.url).port)
})

afterAll(async () => {
  await edge?.close()
})

/** The status of a request with these headers. The second request, which is ambiguous, closes the connection. */
async function statusOf(...lines: string[]): Promise<number | undefined> {
  const last = head('GET / HTTP/1.1', 'Host: x', 'Content-Length: 0', 'Transfer-Encoding: chunked')
  const { statuses } = await untilClosed(port, head(...lines) + last)
  expect(statuses).toHaveLength(2)
  return statuses[0]
}

const UPGRADE = [
  'Connection: Upgrade',
  'Upgrade: websocket',
  'Sec-WebSocket-Version: 13',
  'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
]

describe('the edge, on a connection of bytes,', () => {
  it.each([
    ['Content-Length: 5', 'Transfer-Encoding: chunked'],
    ['Transfer-Encoding: chunked', 'Content-Length: 5'],
    ['transfer-encoding:chunked', `content-length: ${5 + SMUGGLED.length}`],
  ])('gives one answer to %s and %s, and closes', async (...lengths) => {
    for (const [method, path] of [
      ['POST', '/v1/chat/completions'],
      ['GET', '/healthz'],
    ]) {
      const request = head(`${method} ${path} HTTP/1.1`, 'Host: x', authorization, ...lengths)
      const { statuses, text } = await untilClosed(port, `${request}0\r\n\r\n${SMUGGLED}`)
      expect(statuses).toEqual([400])
      expect(text).toContain('"code":"invalid_request"')
      expect(text.endsWith('}')).toBe(true)
    }
  })

  it.each([
    'Authorization: Bearer KEY ',
    'Authorization:\tBearer KEY\t ',
    'Authorization:Bearer  KEY',
    'Authorization: Bearer\tKEY',
    'x-api-key:  KEY \t',
  ])('takes white space around a value for no part of it: %o', async (line) => {
    expect(await statusOf('GET /v1/models HTTP/1.1', 'Host: x', line.replace('KEY', key))).toBe(200)
  })

  it.each(['[::1', 'x:99999', '1.2.3.4.5'])('takes no page for its own where Host is %s', async (host) => {
    const lines = ['GET /v1/models HTTP/1.1', `Host: ${host}`, 'Origin: http://evil.example', authorization]
    expect(await statusOf(...lines)).toBe(200)
    expect(await firstStatus(port, head(...lines, ...UPGRADE).replace('/v1/models', '/v1/stream'))).toBe(403)
  })

  it('takes an empty x-api-key for none', async () => {
    const lines = [
      'GET /v1/stream HTTP/1.1',
      'Host: x',
      ...UPGRADE,
      `Sec-WebSocket-Protocol: apar.v1, apar-key.${key}`,
      'x-api-key: ',
    ]
    expect(await firstStatus(port, head(...lines))).toBe(101)
  })

  it('opens a WebSocket whose headers end in white space', async () => {
    const lines = [
      'GET /v1/stream HTTP/1.1',
      'Host: x',
      ...UPGRADE,
      'Sec-WebSocket-Protocol:  apar.v1 ',
      `${authorization} `,
    ]
    expect(await firstStatus(port, head(...lines))).toBe(101)
  })
})
