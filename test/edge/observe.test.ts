import { env } from 'cloudflare:test'
import { afterEach, expect, it, vi } from 'vitest'
import { createApp } from '../../edge/app.ts'
import { KEY } from './support.ts'

afterEach(() => {
  vi.restoreAllMocks()
})

it('tells each request by its route, and nothing that is secret', async () => {
  const lines = vi.spyOn(console, 'log').mockImplementation(() => {})
  const points: AnalyticsEngineDataPoint[] = []
  const METRICS = { writeDataPoint: (point: AnalyticsEngineDataPoint) => points.push(point) }
  const ask = (path: string, key: string) => {
    const request = new Request(`http://edge${path}`, { headers: { authorization: `Bearer ${key}` } })
    return createApp().fetch(request, { ...env, METRICS, LOG_LEVEL: 'info' })
  }
  const answers = [
    await ask('/v1/models?private=1', KEY),
    await ask('/v1/models/secret-name', KEY),
    await ask('/v1/usage', 'sk-guessed-secret'),
    await ask('/somewhere/secret-name', KEY),
  ]
  const told = lines.mock.calls.map(([line]) => JSON.parse(String(line)))
  expect(told.map(({ route, status, principal }) => [route, status, principal])).toEqual([
    ['/v1/models', 200, 'key:test'],
    ['/v1/models/:id{.+}', 404, 'key:test'],
    ['/v1/usage', 401, ''],
    ['/*', 404, ''],
  ])
  expect(told.map(({ request_id }) => request_id)).toEqual(
    answers.map(({ headers }) => headers.get('x-request-id')),
  )
  expect(points.map(({ blobs }) => blobs?.at(-1))).toEqual(['200', '404', '401', '404'])
  expect(JSON.stringify([told, points])).not.toMatch(/secret|private|apar_test/)
})

it('is silent when nobody asked', async () => {
  const lines = vi.spyOn(console, 'log').mockImplementation(() => {})
  await createApp().fetch(new Request('http://edge/healthz'), env)
  expect(lines).not.toHaveBeenCalled()
})
