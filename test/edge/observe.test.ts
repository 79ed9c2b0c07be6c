import { env } from 'cloudflare:test'
import { afterEach, expect, it, vi } from 'vitest'
import { createApp } from '../../edge/app.ts'
import { traceContext } from '../../edge/middleware/trace-context.ts'
import { call, deregister, framesSeenByNode, KEY, register, request } from './support.ts'

const TRACE = '0af7651916cd43dd8448eb211c80319c'
const TRACEPARENT = `00-${TRACE}-b7ad6b7169203331-01`

afterEach(() => {
  vi.restoreAllMocks()
})

it('logs each request with its route, and no secrets', async () => {
  const lines = vi.spyOn(console, 'log').mockImplementation(() => {})
  const points: AnalyticsEngineDataPoint[] = []
  const METRICS = { writeDataPoint: (point: AnalyticsEngineDataPoint) => points.push(point) }
  const ask = (path: string, key: string) => {
    const headers = { authorization: `Bearer ${key}`, traceparent: TRACEPARENT }
    const request = new Request(`http://edge${path}`, { headers })
    return createApp().fetch(request, { ...env, METRICS, LOG_LEVEL: 'info' })
  }
  const answers = [
    await ask('/v1/models?private=1', KEY),
    await ask('/v1/models/secret-name', KEY),
    await ask('/v1/usage', 'sk-guessed-secret'),
    await ask('/somewhere/secret-name', KEY),
  ]
  const logged = lines.mock.calls.map(([line]) => JSON.parse(String(line)))
  expect(logged.map(({ route, status, principal }) => [route, status, principal])).toEqual([
    ['/v1/models', 200, 'key:test'],
    ['/v1/models/:id{.+}', 404, 'key:test'],
    ['/v1/usage', 401, ''],
    ['/*', 404, ''],
  ])
  expect(logged.map(({ request_id }) => request_id)).toEqual(
    answers.map(({ headers }) => headers.get('x-request-id')),
  )
  expect(logged.map(({ trace_id }) => trace_id)).toEqual(Array(4).fill(TRACE))
  expect(points.map(({ blobs }) => blobs?.at(-1))).toEqual(['200', '404', '401', '404'])
  expect(JSON.stringify([logged, points])).not.toMatch(/secret|private|apar_test/)
})

it('logs no requests at the default level', async () => {
  const lines = vi.spyOn(console, 'log').mockImplementation(() => {})
  await createApp().fetch(new Request('http://edge/healthz'), env)
  expect(lines).not.toHaveBeenCalled()
})

it.each([
  ['is passed on', TRACEPARENT, TRACEPARENT],
  ['of a later version loses its additional fields', `01-${TRACE}-b7ad6b7169203331-01-more`, TRACEPARENT],
  ['with more fields than its version has is ignored', `${TRACEPARENT}-more`, undefined],
  ['of version ff is ignored', TRACEPARENT.replace('00', 'ff'), undefined],
  ['of trace 0 is ignored', `00-${'0'.repeat(32)}-b7ad6b7169203331-01`, undefined],
  ['of span 0 is ignored', `00-${TRACE}-${'0'.repeat(16)}-01`, undefined],
  ['in capitals is ignored', TRACEPARENT.toUpperCase(), undefined],
  ['in another format is ignored', 'hello', undefined],
])('a traceparent %s', (_, traceparent, taken) => {
  expect(traceContext(new Headers({ traceparent })).traceparent).toBe(taken)
})

it('a tracestate is passed on with its traceparent, unless it is too long', () => {
  const state = (tracestate: string) =>
    traceContext(new Headers({ traceparent: TRACEPARENT, tracestate })).tracestate
  expect([state('a=1,b=2'), state('x'.repeat(513))]).toEqual(['a=1,b=2', undefined])
  expect(traceContext(new Headers({ tracestate: 'a=1' }))).toEqual({})
})

it("a stream's gpu node gets the call context", async () => {
  await register('origin')
  const steps = [
    { type: 'accepted', model: 'demo', joints: 'kept', version: 1, created: 1, fingerprint: 'fp' },
    { type: 'error', code: 'invalid_request', message: 'enough', param: null },
  ]
  const response = await call('/v1/chat/completions', {
    method: 'POST',
    headers: { traceparent: TRACEPARENT, tracestate: 'a=1' },
    json: request(steps, { stream: true }),
  })
  const { id } = JSON.parse((await response.text()).split('\n')[0]?.slice(6) ?? '')
  const [start] = await framesSeenByNode(id.replace('chatcmpl-', ''))
  expect(start?.origin).toEqual({
    request_id: response.headers.get('x-request-id'),
    traceparent: TRACEPARENT,
    tracestate: 'a=1',
  })
  await deregister('origin')
})
