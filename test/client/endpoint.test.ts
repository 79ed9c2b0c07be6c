import { expect, test } from 'vitest'
import { endpoint, socketEndpoint } from '../../client/endpoint.ts'

test.each([
  ['http://127.0.0.1:8787', 'ws://127.0.0.1:8787/v1/stream'],
  ['https://host/', 'wss://host/v1/stream'],
  ['https://host/models/apar', 'wss://host/models/apar/v1/stream'],
  ['https://host/models/apar//', 'wss://host/models/apar/v1/stream'],
  ['https://host/v1', 'wss://host/v1/stream'],
  ['https://host/models/v1/?a=b#c', 'wss://host/models/v1/stream'],
  ['wss://host/apar', 'wss://host/apar/v1/stream'],
])('an edge at %s is asked at %s', (baseUrl, address) => {
  expect(socketEndpoint(baseUrl).href).toBe(address)
})

test('paths over HTTP keep the prefix, too', () => {
  expect(endpoint('https://host/apar/v1/', '/v1/models').href).toBe('https://host/apar/v1/models')
})

test('what is not a URL is refused', () => {
  expect(() => endpoint('localhost', '/v1/models')).toThrow(TypeError)
})
