import OpenAI from 'openai'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import WebSocket from 'ws'
import { FakeCollector } from '../support/fake-collector.ts'
import { recorded } from '../support/logs.ts'
import { type Stack, startStack } from './stack.ts'

const METRICS_SECRET = 'metrics-secret-of-the-tests'

const collector = new FakeCollector()
const logs = recorded()
let stack: Stack
let openai: OpenAI

beforeAll(async () => {
  // Configured as an operator would, with OpenTelemetry's own variables.
  vi.stubEnv('OTEL_EXPORTER_OTLP_ENDPOINT', await collector.listen())
  vi.stubEnv('OTEL_BSP_SCHEDULE_DELAY', '20')
  vi.stubEnv('OTEL_SERVICE_NAME', 'node-under-test')
  stack = await startStack({ metricsSecret: METRICS_SECRET, log: logs.log })
  openai = new OpenAI({ baseURL: `${stack.url}/v1`, apiKey: stack.key, maxRetries: 0 })
})

afterAll(async () => {
  await stack?.close()
  collector.close()
  vi.unstubAllEnvs()
})

/** Parses Prometheus' text format, `name{labels} value`, without the label `model_name`. */
async function scrape(): Promise<Map<string, number>> {
  const url = `${stack.node.url.replace(/^ws/, 'http')}/metrics`
  const response = await fetch(url, { headers: { authorization: `Bearer ${METRICS_SECRET}` } })
  const lines = (await response.text()).split('\n').filter((line) => line !== '' && !line.startsWith('#'))
  return new Map(
    lines.map((line) => {
      const at = line.lastIndexOf(' ')
      return [
        line
          .slice(0, at)
          .replace(/,?model_name="demo"/, '')
          .replace('{}', ''),
        Number(line.slice(at)),
      ]
    }),
  )
}

describe('/metrics', () => {
  it('agrees with the usage of the requests', async () => {
    const sum = { prompt: 0, cached: 0, completion: 0 }
    for (const content of ['How do I use tar?', 'How do I use tar?', 'What is a kernel?']) {
      const { usage } = await openai.chat.completions.create({
        ...{ model: 'demo', temperature: 0, max_tokens: 300 },
        messages: [{ role: 'user', content }],
      })
      sum.prompt += usage?.prompt_tokens ?? 0
      sum.cached += usage?.prompt_tokens_details?.cached_tokens ?? 0
      sum.completion += usage?.completion_tokens ?? 0
    }
    const metrics = await scrape()
    const stats = stack.node.runner.stats()
    expect(sum.cached).toBeGreaterThan(0)
    expect(Object.fromEntries(metrics)).toMatchObject({
      apar_prompt_tokens_total: sum.prompt,
      apar_prefix_cache_queries_total: sum.prompt,
      apar_prefix_cache_hits_total: sum.cached,
      apar_prefill_tokens_total: stats.prefillTokens,
      apar_generation_tokens_total: sum.completion,
      apar_forks_total: stats.forks,
      apar_steps_total: stats.steps,
      'apar_request_success_total{finished_reason="error"}': 0,
      apar_time_to_first_token_seconds_count: 3,
      apar_e2e_request_latency_seconds_count: 3,
      apar_request_branches_count: 3,
      apar_num_requests_running: 0,
      apar_kv_cache_usage_perc: 0,
    })
    expect(metrics.get('apar_request_branches_sum')).toBe(3 + stats.forks)
  })
})

const TRACE = '0af7651916cd43dd8448eb211c80319c'
const SPAN = 'b7ad6b7169203331'
const traceparent = `00-${TRACE}-${SPAN}-01`

describe('a trace', () => {
  it("goes from an HTTP client through the edge to the gpu node's span", async () => {
    const { data, response } = await openai.chat.completions
      .create(
        {
          model: 'demo',
          temperature: 0,
          max_tokens: 200,
          messages: [{ role: 'user', content: 'How do I use tar?' }],
        },
        { headers: { traceparent, tracestate: 'vendor=1' } },
      )
      .withResponse()
    const span = await collector.span((span) => span.parentSpanId === SPAN)
    expect(span).toMatchObject({ traceId: TRACE, traceState: 'vendor=1', name: 'generate demo' })
    expect(span.events.map(({ name }) => name)).toEqual(['queued', 'decode'])
    expect(collector.attributes(span)).toMatchObject({
      'apar.request_id': response.headers.get('x-request-id'),
      'gen_ai.request.model': 'demo',
      'gen_ai.usage.input_tokens': data.usage?.prompt_tokens,
      'gen_ai.usage.output_tokens': data.usage?.completion_tokens,
      'apar.moved': false,
    })
    expect(collector.attributes(span)['apar.branches']).toBeGreaterThan(1)
    expect(collector.serviceName).toBe('node-under-test')
  })

  it('goes from the handshake of a WebSocket to that span, too', async () => {
    const headers = { authorization: `Bearer ${stack.key}`, traceparent: traceparent.replace('b7', 'c8') }
    const socket = new WebSocket(`${stack.url.replace('http', 'ws')}/v1/stream`, { headers })
    const messages = [{ role: 'user', content: 'hi' }]
    socket.on('open', () =>
      socket.send(JSON.stringify({ type: 'generate', model: 'demo', max_tokens: 5, messages })),
    )
    const span = await collector.span((span) => span.parentSpanId === SPAN.replace('b7', 'c8'))
    expect(span.traceId).toBe(TRACE)
    socket.terminate()
  })
})

describe("a gpu node's log", () => {
  it('has a line per request, with the ids of the request and the trace', async () => {
    const { response } = await openai.chat.completions
      .create(
        { model: 'demo', max_tokens: 5, messages: [{ role: 'user', content: 'hi' }] },
        { headers: { traceparent } },
      )
      .withResponse()
    const line = logs.entries().at(-1)
    expect(line).toMatchObject({
      ...{ level: 'info', message: 'request', outcome: 'length', completion_tokens: 5, branches: 1 },
      ...{ request_id: response.headers.get('x-request-id'), trace_id: TRACE },
    })
  })

  it('has no secrets, prompts or answers', async () => {
    const before = logs.lines.length
    const answer = await openai.chat.completions.create({
      ...{ model: 'demo', max_tokens: 50, temperature: 0, user: 'user-of-the-test' },
      messages: [{ role: 'user', content: 'What is a kernel? xyzzy' }],
    })
    await openai.chat.completions
      .create({ model: 'demo', messages: [{ role: 'user', content: 'xyzzy '.repeat(5000) }] })
      .catch(() => {})
    expect(logs.lines.length).toBe(before + 2)
    const all = logs.lines.join('\n')
    const pieces = answer.choices[0]?.message.content?.match(/.{12}/g) ?? []
    expect(pieces.length).toBeGreaterThan(3)
    for (const secret of [
      'xyzzy',
      'user-of-the-test',
      stack.key,
      stack.key.slice(-12),
      METRICS_SECRET,
      ...pieces,
    ]) {
      expect(all).not.toContain(secret)
    }
  })
})
