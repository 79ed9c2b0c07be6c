import { EventSourceParserStream } from 'eventsource-parser/stream'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Stack, startStack } from './stack.ts'

/** What the tools read of a chunk. */
interface Chunk {
  readonly choices: readonly {
    readonly text?: string
    readonly delta?: { readonly content?: string | null }
    readonly finish_reason: string | null
  }[]
  readonly usage?: { readonly prompt_tokens: number; readonly completion_tokens: number } | null
}

const QUESTION = 'How do I use tar?'
/** What ends an answer of the demo model before its limit, so that `ignore_eos` is needed for one as long as that. */
const ENDS = 'How do I list files?'
const TOKENS = 24

describe('requests of load tools that CI does not run', () => {
  let stack: Stack
  beforeAll(async () => {
    stack = await startStack()
  }, 60_000)
  afterAll(() => stack?.close())

  function post(path: string, body: object, headers: Record<string, string> = {}): Promise<Response> {
    const own = { authorization: `Bearer ${stack.key}`, 'content-type': 'application/json', ...headers }
    return fetch(`${stack.url}${path}`, { method: 'POST', headers: own, body: JSON.stringify(body) })
  }

  /** All chunks of an answer, which `[DONE]` ends. */
  async function chunks(path: string, body: object, headers: Record<string, string> = {}): Promise<Chunk[]> {
    const response = await post(path, body, headers)
    expect(response.status, response.ok ? '' : await response.clone().text()).toBe(200)
    expect(response.headers.get('content-type')).toContain('text/event-stream')
    const data: string[] = []
    const parsed = response.body
      ?.pipeThrough(new TextDecoderStream())
      .pipeThrough(new EventSourceParserStream())
    for await (const event of parsed ?? []) data.push(event.data)
    expect(data.pop()).toBe('[DONE]')
    return data.map((each) => JSON.parse(each))
  }

  /** That the last chunk has the usage and no choices, and the one before it the reason of the end. */
  function check(all: readonly Chunk[], completion: number, reason: string): void {
    const last = all.at(-1)
    expect(last).toMatchObject({ choices: [], usage: { completion_tokens: completion } })
    expect(last?.usage?.prompt_tokens).toBeGreaterThan(0)
    const reasons = all.flatMap(({ choices }) => choices.flatMap((each) => each.finish_reason ?? []))
    expect(reasons).toEqual([reason])
    expect(all.slice(0, -1).every(({ choices }) => choices.length === 1)).toBe(true)
  }

  const vllmHeaders = { 'x-request-id': 'bench-dcd89134-1', 'user-agent': 'Python/3.11 aiohttp/3.14.5' }
  const vllm = { stream: true, stream_options: { include_usage: true }, ignore_eos: true, temperature: 0 }

  test('vllm bench serve --backend openai', async () => {
    const body = { ...vllm, model: 'demo', prompt: ENDS, repetition_penalty: 1, logprobs: null }
    const all = await chunks('/v1/completions', { ...body, max_tokens: TOKENS }, vllmHeaders)
    check(all, TOKENS, 'length')
    expect(all.some(({ choices }) => choices[0]?.text)).toBe(true)
    // Without ignore_eos it ends by itself.
    const short = await chunks('/v1/completions', { ...body, max_tokens: TOKENS, ignore_eos: false })
    expect(short.at(-1)?.usage?.completion_tokens).toBeLessThan(TOKENS)
  })

  test('vllm bench serve --backend openai-chat', async () => {
    const messages = [{ role: 'user', content: [{ type: 'text', text: ENDS }] }]
    const body = { ...vllm, model: 'demo', messages, max_completion_tokens: TOKENS }
    const all = await chunks('/v1/chat/completions', body, vllmHeaders)
    check(all, TOKENS, 'length')
    expect(all.some(({ choices }) => choices[0]?.delta?.content)).toBe(true)
  })

  test('vllm bench serve asks for counts of tokens and for metrics without a key, and goes on without', async () => {
    const tokenize = { model: 'demo', prompt: QUESTION, add_special_tokens: false }
    expect((await post('/tokenize', tokenize, { authorization: '' })).status).toBe(401)
    expect((await fetch(`${stack.url}/metrics`)).status).toBe(401)
  })

  test("llama.cpp's k6 script", async () => {
    const messages = [
      { role: 'system', content: 'You are ChatGPT, an AI assistant.' },
      { role: 'user', content: QUESTION },
    ]
    const body = {
      ...{ messages, model: 'demo', stream: true, stream_options: { include_usage: true } },
      ...{ seed: 42, max_tokens: TOKENS, stop: ['<|im_end|>'] },
    }
    const all = await chunks('/v1/chat/completions', body)
    check(all, TOKENS, 'length')
    // It counts each usage that is not null.
    expect(all.filter(({ usage }) => usage)).toHaveLength(1)
  })

  test("llama.cpp's server-bench.py names no model, and its prompts are token ids", async () => {
    const prompt = [322, 377, 350, 371, 893]
    const body = { prompt, ignore_eos: true, seed: 2, max_tokens: TOKENS, stream: true }
    const all = await chunks('/v1/completions', body)
    expect(all.at(-1)?.choices[0]?.finish_reason).toBe('length')
    const counted = { ...body, stream_options: { include_usage: true } }
    check(await chunks('/v1/completions', counted), TOKENS, 'length')
  })

  test("lm-eval's loglikelihood: an entry for each token of the prompt and for the next one, also the end", async () => {
    const json = async (path: string, body: object) =>
      await (await post(path, { model: 'demo', ...body })).json()
    const { tokens } = (await json('/tokenize', { prompt: ENDS, add_special_tokens: false })) as {
      tokens: number[]
    }
    const body = { temperature: 0, max_tokens: 1, logprobs: 1, seed: 1234, echo: true }
    const { choices, usage } = (await json('/v1/completions', {
      ...body,
      prompt: [tokens, tokens.slice(0, -1)],
    })) as {
      choices: { logprobs: { tokens: string[]; token_logprobs: number[]; top_logprobs: object[] } }[]
      usage: object
    }
    expect(choices.map(({ logprobs }) => logprobs.tokens.length)).toEqual([tokens.length + 1, tokens.length])
    // The next token of the first prompt is the end, which is no token of the answer.
    expect(usage).toMatchObject({ completion_tokens: 1 })
    for (const { logprobs } of choices) {
      const next = logprobs.token_logprobs.at(-1)
      expect(next).toBeLessThan(0)
      expect(Object.values(logprobs.top_logprobs.at(-1) ?? {})).toEqual([next])
      expect(logprobs.top_logprobs).toHaveLength(logprobs.tokens.length)
    }
  })

  test('min_tokens and max_tokens, as `apar bench serving` sends them beside ignore_eos', async () => {
    const body = {
      ...vllm,
      ignore_eos: false,
      model: 'demo',
      prompt: ENDS,
      min_tokens: 9,
      max_tokens: TOKENS,
    }
    const usage = (await chunks('/v1/completions', body)).at(-1)?.usage
    expect(usage?.completion_tokens).toBeGreaterThanOrEqual(9)
    expect(usage?.completion_tokens).toBeLessThanOrEqual(TOKENS)
    const exact = { ...body, ignore_eos: true, min_tokens: TOKENS }
    check(await chunks('/v1/completions', exact), TOKENS, 'length')
  })
})
