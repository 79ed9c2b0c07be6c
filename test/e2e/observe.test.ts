import OpenAI from 'openai'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type Stack, startStack } from './stack.ts'

const METRICS_SECRET = 'metrics-secret-of-the-tests'

let stack: Stack
let openai: OpenAI

beforeAll(async () => {
  stack = await startStack({ metricsSecret: METRICS_SECRET })
  openai = new OpenAI({ baseURL: `${stack.url}/v1`, apiKey: stack.key, maxRetries: 0 })
})

afterAll(async () => {
  await stack?.close()
})

/** Prometheus' text format: `name{labels} value`, the model's own label left out. */
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
  it('says of real requests what their usage says', async () => {
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
