// Bodies of current clients against a real edge, engine and model: what each kind of field does to the answer.
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type Stack, startStack } from './stack.ts'

const QUESTION = { role: 'user', content: 'How do I use tar?' }
const THANKS = [{ role: 'user', content: 'thanks' }]

let stack: Stack

beforeAll(async () => {
  stack = await startStack()
})

afterAll(async () => {
  await stack?.close()
})

function post(path: string, fields: object): Promise<Response> {
  const headers = { authorization: `Bearer ${stack.key}`, 'content-type': 'application/json' }
  const body = JSON.stringify({ model: 'demo', temperature: 0, max_tokens: 8, ...fields })
  return fetch(`${stack.url}${path}`, { method: 'POST', headers, body })
}

interface Answer {
  readonly choices: readonly {
    readonly index: number
    readonly text: string
    readonly message: { readonly content: string }
    readonly finish_reason: string
    readonly matched_stop?: string | number
    readonly logprobs: {
      readonly tokens: string[]
      readonly token_logprobs: (number | null)[]
      readonly top_logprobs: (Record<string, number> | null)[]
      readonly text_offset: number[]
    } | null
  }[]
  readonly usage: { readonly prompt_tokens: number; readonly completion_tokens: number }
}

async function answer(path: string, fields: object): Promise<Answer> {
  const response = await post(path, fields)
  const body = await response.text()
  expect([response.status, body]).toEqual([200, body])
  return JSON.parse(body)
}

const chat = (fields: object) => answer('/v1/chat/completions', { messages: [QUESTION], ...fields })
const complete = (fields: object) => answer('/v1/completions', fields)

describe('several choices', () => {
  it('compute their prompt once', async () => {
    const prompt = `Once. ${'The quick brown fox jumps over the lazy dog. '.repeat(20)}`
    const before = stack.node.runner.stats().prefillTokens
    const { usage, choices } = await complete({ prompt, n: 4, temperature: 1 })
    expect(choices).toHaveLength(4)
    const computed = stack.node.runner.stats().prefillTokens - before
    expect(computed).toBeGreaterThan(0)
    expect(computed).toBeLessThan(2 * usage.prompt_tokens)
  })

  it('are the most likely ones with best_of', async () => {
    const fields = { prompt: 'How do I use', temperature: 1, seed: 7 }
    const all = await complete({ ...fields, n: 4, logprobs: 0 })
    const mean = ({ logprobs }: Answer['choices'][number]) => {
      const values = (logprobs?.token_logprobs ?? []).map(Number)
      return values.reduce((sum, value) => sum + value, 0) / values.length
    }
    const sorted = [...all.choices].sort((a, b) => mean(b) - mean(a)).map(({ text }) => text)
    expect(sorted[0]).not.toBe(sorted[3])
    const best = await complete({ ...fields, n: 2, best_of: 4 })
    expect(best.choices.map(({ text }) => text)).toEqual(sorted.slice(0, 2))
    expect(best.choices.map(({ logprobs }) => logprobs)).toEqual([null, null])
    expect(best.usage.completion_tokens).toBe(all.usage.completion_tokens)
  })
})

describe('what ends an answer', () => {
  it('min_tokens and ignore_eos let it go on', async () => {
    const free = await chat({ messages: THANKS, max_tokens: 60 })
    expect(free.choices[0]?.finish_reason).toBe('stop')
    const longer = await chat({ messages: THANKS, max_tokens: 60, min_tokens: 50 })
    expect(longer.usage.completion_tokens).toBeGreaterThanOrEqual(50)
    const endless = await chat({ messages: THANKS, max_tokens: 60, ignore_eos: true })
    expect(endless.usage.completion_tokens).toBe(60)
    expect(endless.choices[0]?.finish_reason).toBe('length')
    expect(endless.choices[0]?.message.content.startsWith(free.choices[0]?.message.content ?? '?')).toBe(true)
    const neutral = await chat({ messages: THANKS, max_tokens: 60, ignore_eos: false, min_tokens: 0 })
    expect(neutral.choices[0]?.message.content).toBe(free.choices[0]?.message.content)
  })

  it('stop_token_ids end it, and matched_stop says which, or which string', async () => {
    const all = [...Array(4096).keys()].slice(3, 259)
    const stopped = await chat({ stop_token_ids: all, max_tokens: 100 })
    expect(stopped.choices[0]?.finish_reason).toBe('stop')
    expect(all).toContain(stopped.choices[0]?.matched_stop)
    const byString = await chat({ stop: ['tar:'], max_tokens: 100 })
    expect(byString.choices[0]).toMatchObject({ finish_reason: 'stop', matched_stop: 'tar:' })
  })
})

describe('prompts', () => {
  it('as token ids, one or several; echo gives their text', async () => {
    const one = await complete({ prompt: [322, 377, 350] })
    const several = await complete({ prompt: [[322, 377, 350], [322]] })
    expect(several.choices).toHaveLength(2)
    expect(several.choices[0]?.text).toBe(one.choices[0]?.text)
    expect(one.usage.prompt_tokens).toBe(3)
    const echoed = await complete({ prompt: [322, 377, 350], echo: true })
    expect(echoed.choices[0]?.text).toMatch(/\S/)
    expect(echoed.choices[0]?.text.endsWith(one.choices[0]?.text ?? '?')).toBe(true)
    expect(echoed.choices[0]?.text.length).toBeGreaterThan(one.choices[0]?.text.length ?? 0)
  })

  it('echo with logprobs scores every token as the model does without it', async () => {
    const prompt = 'How do I copy a file? Use cp'
    const { choices, usage } = await complete({ prompt, echo: true, logprobs: 3, max_tokens: 1 })
    const {
      tokens = [],
      token_logprobs = [],
      top_logprobs = [],
      text_offset = [],
    } = choices[0]?.logprobs ?? {}
    expect(tokens).toHaveLength(usage.prompt_tokens + 1)
    expect([token_logprobs[0], top_logprobs[0]]).toEqual([null, null])
    expect(choices[0]?.text.startsWith(prompt)).toBe(true)
    for (const [i, at] of text_offset.entries()) {
      const next = text_offset[i + 1] ?? choices[0]?.text.length
      if (tokens[i]?.startsWith('token_id:')) continue
      expect(choices[0]?.text.slice(at, next)).toBe(i === 1 ? tokens[i]?.trimStart() : tokens[i])
    }
    // The last token of the prompt, as an answer to the part before it.
    const last = usage.prompt_tokens - 1
    const before = await complete({ prompt: prompt.slice(0, text_offset[last]), logprobs: 3, max_tokens: 1 })
    const expected = before.choices[0]?.logprobs?.top_logprobs[0] ?? {}
    const scored = top_logprobs[last] ?? {}
    const names = Object.keys(expected).filter((name) => name in scored)
    expect(names.length).toBeGreaterThan(0)
    for (const name of names) expect(scored[name]).toBeCloseTo(expected[name] ?? Number.NaN, 2)
    // From the prefix cache: the same.
    const again = await complete({ prompt, echo: true, logprobs: 3, max_tokens: 1 })
    expect(again.choices[0]?.logprobs).toEqual(choices[0]?.logprobs)
  })

  it('alone are scored with max_tokens 0', async () => {
    const fields = { prompt: ['ls is', 'How do I use tar?'], n: 2, echo: true, logprobs: 1 }
    const more = await complete({ ...fields, max_tokens: 1 })
    const { choices, usage } = await complete({ ...fields, max_tokens: 0 })
    expect(choices).toMatchObject(
      ['ls is', 'ls is', 'How do I use tar?', 'How do I use tar?'].map((text) => ({
        text,
        finish_reason: 'length',
      })),
    )
    for (const [index, { logprobs }] of choices.entries()) {
      const scored = logprobs?.token_logprobs ?? []
      expect(scored.length).toBeGreaterThan(2)
      expect(more.choices[index]?.logprobs?.token_logprobs.slice(0, -1)).toEqual(scored)
    }
    expect(usage).toMatchObject({ completion_tokens: 0, prompt_tokens: more.usage.prompt_tokens })
    const streamed = await post('/v1/completions', { ...fields, max_tokens: 0, stream: true })
    const chunks: Answer[] = [...(await streamed.text()).matchAll(/^data: (\{.*)$/gm)].map(([, line = '']) =>
      JSON.parse(line),
    )
    const first = chunks.flatMap((chunk) => chunk.choices.filter(({ index }) => index === 0))
    expect(first.map(({ text }) => text).join('')).toBe('ls is')
    expect(first.at(-1)?.finish_reason).toBe('length')
    expect((await complete({ prompt: 'ls is', max_tokens: 0 })).choices[0]).toMatchObject({ text: '' })
  })

  it('streamed, begin with the echoed prompt', async () => {
    const whole = await complete({ prompt: 'ls is', echo: true, logprobs: 0 })
    const response = await post('/v1/completions', { prompt: 'ls is', echo: true, logprobs: 0, stream: true })
    const chunks: Answer[] = [...(await response.text()).matchAll(/^data: (\{.*)$/gm)].map(([, line = '']) =>
      JSON.parse(line),
    )
    expect(chunks.map(({ choices }) => choices[0]?.text ?? '').join('')).toBe(whole.choices[0]?.text)
    expect(chunks.flatMap(({ choices }) => choices[0]?.logprobs?.tokens ?? [])).toEqual(
      whole.choices[0]?.logprobs?.tokens,
    )
  })
})

describe('the template', () => {
  it('leaves the last message open, so that the answer continues it', async () => {
    const [, begun = ''] = /^(\S+ \S+)/.exec((await chat({})).choices[0]?.message.content ?? '') ?? []
    const messages = [QUESTION, { role: 'assistant', content: begun }]
    const options = { messages, continue_final_message: true, add_generation_prompt: false }
    const continued = await chat(options)
    const whole = await chat({ max_tokens: 20 })
    expect(whole.choices[0]?.message.content.startsWith(begun + continued.choices[0]?.message.content)).toBe(
      true,
    )
    const response = await post('/v1/messages', { messages })
    const { content } = (await response.json()) as { content: { text: string }[] }
    expect(content[0]?.text).toBe(continued.choices[0]?.message.content)
  })

  it('does not leave the last message open and begin another one', async () => {
    const messages = [QUESTION, { role: 'assistant', content: 'With' }]
    const both = { messages, continue_final_message: true, add_generation_prompt: true }
    const response = await post('/v1/chat/completions', both)
    expect([response.status, await response.json()]).toMatchObject([
      400,
      { error: { param: 'continue_final_message' } },
    ])
  })

  it('takes variables, none of which replaces its own', async () => {
    const plain = await chat({})
    const variables = { enable_thinking: false, messages: [], bos_token: 'x', add_generation_prompt: false }
    const same = await chat({ chat_template_kwargs: variables })
    expect(same.choices[0]?.message.content).toBe(plain.choices[0]?.message.content)
    expect(same.usage.prompt_tokens).toBe(plain.usage.prompt_tokens)
  })

  it('has calls of tools and their results as text', async () => {
    const call = { id: 'c', type: 'function', function: { name: 'f', arguments: '{"a":1}' } }
    const history = [
      QUESTION,
      { role: 'assistant', content: null, tool_calls: [call] },
      { role: 'tool', tool_call_id: 'c', content: '4' },
    ]
    const plain = await chat({})
    expect((await chat({ messages: history })).usage.prompt_tokens).toBeGreaterThan(plain.usage.prompt_tokens)
  })
})

describe('what clients read', () => {
  it('counts of every chunk, of the input at the start, and the parts of a usage', async () => {
    const stream_options = { include_usage: true, continuous_usage_stats: true }
    const streamed = await post('/v1/chat/completions', {
      messages: [QUESTION],
      stream: true,
      stream_options,
    })
    const chunks: Answer[] = [...(await streamed.text()).matchAll(/^data: (\{.*)$/gm)].map(([, line = '']) =>
      JSON.parse(line),
    )
    const counts = chunks.map(({ usage }) => usage.completion_tokens)
    expect(counts).toEqual([...counts].sort((a, b) => a - b))
    expect([counts[0], counts.at(-1)]).toEqual([0, 8])
    expect(new Set(chunks.map(({ usage }) => usage.prompt_tokens))).toEqual(
      new Set([chunks.at(-1)?.usage.prompt_tokens]),
    )

    const begun = await (await post('/v1/messages', { messages: [QUESTION], stream: true })).text()
    const start = JSON.parse(/^data: (\{"type":"message_start".*)$/m.exec(begun)?.[1] ?? '{}')
    expect(start.message.usage.input_tokens).toBe(chunks.at(-1)?.usage.prompt_tokens)

    const response = await post('/v1/responses', { input: 'hi', max_tokens: undefined, max_output_tokens: 4 })
    const { usage } = (await response.json()) as { usage: object }
    expect(usage).toMatchObject({
      input_tokens_details: { cached_tokens: expect.any(Number), cache_write_tokens: 0 },
    })
  })

  it.each([
    ['/v1/chat/completions', 'messages', { messages: [{ role: 'user', content: 'tar '.repeat(1500) }] }],
    ['/v1/messages', 'messages', { messages: [{ role: 'user', content: 'tar '.repeat(1500) }] }],
    ['/v1/completions', 'prompt', { prompt: 'tar '.repeat(1500) }],
    ['/v1/completions', 'prompt', { prompt: Array(2000).fill(300) }],
    ['/v1/responses', 'input', { input: 'tar '.repeat(1500), max_tokens: undefined }],
  ])('%s: why a prompt is too long, in the words that they look for', async (path, param, fields) => {
    const response = await post(path, fields)
    expect(response.status).toBe(400)
    const { error } = (await response.json()) as { error: { code: string; param: string; message: string } }
    expect(error).toMatchObject({ code: 'context_length_exceeded', param })
    expect(error.message).toMatch(/maximum context length is 1024 tokens.* resulted in \d+ tokens/)
    expect(error.message).toMatch(/prompt is too long: \d+ tokens > 1023 maximum/)
  })

  it("Anthropic's id of a request, in headers and in errors, also where nothing is served", async () => {
    const good = await post('/v1/messages', { messages: [QUESTION] })
    expect(good.headers.get('request-id')).toBe(good.headers.get('x-request-id'))
    const bad = await post('/v1/messages/nothing', {})
    expect(await bad.json()).toMatchObject({ type: 'error', request_id: bad.headers.get('request-id') })
    expect(bad.status).toBe(404)
  })

  it('names items that add nothing', async () => {
    const input = [{ type: 'item_reference', id: 'msg_1' }, QUESTION]
    const response = await post('/v1/responses', { input, max_tokens: undefined, max_output_tokens: 4 })
    expect([response.status, response.headers.get('x-apar-ignored-fields')]).toEqual([200, 'input.0'])
  })
})
