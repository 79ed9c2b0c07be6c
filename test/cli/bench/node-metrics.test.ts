import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type MetricsSource, NodeWatch, sumsOf } from '../../../cli/bench/serving/load/node-metrics.ts'
import { explain } from '../../../cli/explain.ts'

let scrapes = 0
let running: number | undefined
let dead = false
const server = createServer((request, response) => {
  if (request.headers.authorization !== 'Bearer secret') return void response.writeHead(401).end()
  if (dead) return void response.destroy()
  scrapes++
  response.end(
    [
      'apar_engine_info{device="cpu",num_blocks="400"} 1',
      '# TYPE apar_steps_total counter',
      `apar_steps_total{model_name="demo"} ${100 * scrapes}`,
      `apar_kv_cache_usage_perc{model_name="demo"} ${scrapes === 2 ? 0.5 : 0.1}`,
      `apar_drafted_tokens_total{source="medusa"} ${scrapes}`,
      `apar_drafted_tokens_total{source="ngram"} ${2 * scrapes}`,
      ...(running === undefined ? [] : [`apar_num_requests_running ${running}`]),
    ].join('\n'),
  )
})
let url = ''
beforeAll(async () => {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/metrics`
})
afterAll(() => server.close())

test('series of a name are added up', () => {
  expect(sumsOf('# HELP a b\na{x="1 2"} 3\na{x="}"} 4 1700000000\nb 1e3\n')).toEqual(
    new Map([
      ['a', 7],
      ['b', 1000],
    ]),
  )
})

test('counters give what was added, gauges their peak', async () => {
  scrapes = 0
  const watch = await NodeWatch.start({ url, secret: 'secret' })
  while (scrapes < 3) await new Promise((resolve) => setTimeout(resolve, 20))
  const figures = await watch.stop()
  expect(figures).toEqual({
    kv_blocks: 400,
    kv_peak: 0.5,
    steps: 100 * (scrapes - 1),
    drafted: 3 * (scrapes - 1),
  })
})

test('readings have what the metrics said at a time, from before the load to its end', async () => {
  scrapes = 0
  const watch = await NodeWatch.start({ url, secret: 'secret' })
  while (scrapes < 2) await new Promise((resolve) => setTimeout(resolve, 20))
  await watch.stop()
  const { readings } = watch
  expect(readings.slice(0, 2)).toMatchObject([
    { kv_usage: 0.1, steps: 0, drafted: 0 },
    { kv_usage: 0.5, steps: 100, drafted: 3 },
  ])
  expect(readings.at(-1)).toMatchObject({ kv_usage: 0.1, steps: 100 * (scrapes - 1) })
  const times = readings.map(({ at_ms }) => at_ms)
  expect(times).toEqual([...times].sort((a, b) => a - b))
  expect(readings[1]).not.toHaveProperty('running_requests')
})

test('a load that ended before the first reading has no peaks', async () => {
  scrapes = 0
  const watch = await NodeWatch.start({ url, secret: 'secret' })
  expect(await watch.stop()).toEqual({ kv_blocks: 400, steps: 100, drafted: 3 })
})

test('a load in which no reading met a request has no peaks', async () => {
  scrapes = 0
  running = 0
  const watch = await NodeWatch.start({ url, secret: 'secret' })
  while (scrapes < 3) await new Promise((resolve) => setTimeout(resolve, 20))
  running = undefined
  expect(await watch.stop()).not.toHaveProperty('kv_peak')
})

test('a node that dies with the load leaves what was read before', async () => {
  scrapes = 0
  const watch = await NodeWatch.start({ url, secret: 'secret' })
  while (scrapes < 3) await new Promise((resolve) => setTimeout(resolve, 20))
  dead = true
  expect(await watch.stop()).toEqual({ kv_blocks: 400, kv_peak: 0.5 })
  dead = false
})

test('metrics that cannot be read are an error of one line', async () => {
  const why = (source: MetricsSource) => NodeWatch.start(source).catch(explain)
  expect(await why({ url, secret: undefined })).toBe(
    `the metrics of the node cannot be read: ${url} answered 401 (not_measured)`,
  )
  expect(await why({ url: 'http://127.0.0.1:9/metrics', secret: undefined })).toMatch(
    /^the metrics of the node cannot be read: .* does not answer \(.*\) \(not_measured\)$/,
  )
})
