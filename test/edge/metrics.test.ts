import { env } from 'cloudflare:test'
import { expect, it } from 'vitest'
import dashboard from '../../deploy/grafana/apar-edge.json'
import { createApp } from '../../edge/app.ts'
import { ADMIN_KEY, call, heartbeat, register } from './support.ts'

it('/metrics is for holders of the admin key, or of the metrics secret where there is one', async () => {
  const status = async (key: string, settings: object = {}) => {
    const headers = { authorization: `Bearer ${key}` }
    const request = new Request('http://edge/metrics', { headers })
    return (await createApp().fetch(request, { ...env, ...settings })).status
  }
  expect(await status(ADMIN_KEY)).toBe(200)
  expect(await status('guess')).toBe(401)
  expect(await status('scrape', { METRICS_SECRET: 'scrape' })).toBe(200)
  expect(await status(ADMIN_KEY, { METRICS_SECRET: 'scrape' })).toBe(401)
  expect(await status('', { ADMIN_KEY: undefined })).toBe(401)
  expect(await status('undefined', { ADMIN_KEY: undefined })).toBe(401)
})

it('/metrics has the gpu nodes in the format of Prometheus', async () => {
  const models = [{ id: 'a"b\\', created: 1_700_000_000, context_tokens: 64 }]
  const load = { running: 3, waiting: 2, free_blocks: 90 }
  await register('metrics', heartbeat({ url: 'ws://127.0.0.1:2', models, load }))
  const response = await call('/metrics', { key: ADMIN_KEY })
  expect(response.headers.get('content-type')).toBe('text/plain; version=0.0.4; charset=utf-8')
  const lines = (await response.text()).split('\n')
  expect(lines).toContain('# TYPE apar_edge_gpu_nodes gauge')
  expect(lines).toContain('apar_edge_model_gpu_nodes{model_name="a\\"b\\\\"} 1')
  expect(lines).toContain('apar_edge_gpu_node_requests_running{node="metrics"} 3')
  expect(lines).toContain('apar_edge_gpu_node_requests_waiting{node="metrics"} 2')
  expect(lines).toContain('apar_edge_gpu_node_free_blocks{node="metrics"} 90')
})

it("the edge's dashboard shows each metric, and no other", async () => {
  await register('shown')
  const text = await (await call('/metrics', { key: ADMIN_KEY })).text()
  const exported = [...text.matchAll(/^# TYPE (\S+) /gm)].map(([, name]) => name)
  const shown = JSON.stringify(dashboard).match(/\bapar_\w+/g) ?? []
  expect(exported.length).toBeGreaterThan(6)
  expect([...new Set(shown)].sort()).toEqual(exported.sort())
})
