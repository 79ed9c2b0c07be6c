import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type Stack, startStack } from './stack.ts'

interface Answer {
  status: number
  // biome-ignore lint/suspicious/noExplicitAny: bodies of several shapes
  body: any
}

let stack: Stack
beforeAll(async () => {
  stack = await startStack()
})
afterAll(async () => {
  await stack?.close()
})

async function call(path: string, body?: object, to = stack): Promise<Answer> {
  const response = await fetch(`${to.url}${path}`, {
    method: body ? 'POST' : 'GET',
    headers: { authorization: `Bearer ${to.key}`, 'content-type': 'application/json' },
    ...(body && { body: JSON.stringify(body) }),
  })
  return { status: response.status, body: await response.json() }
}

const messages = [{ role: 'user', content: 'How do I use tar?' }]

describe('/tokenize', () => {
  it('has as many tokens of a conversation as the answer to it counts', async () => {
    const { body } = await call('/tokenize', { messages })
    const answer = await call('/v1/chat/completions', { model: 'demo', messages, max_tokens: 1 })
    expect(body).toEqual({
      count: answer.body.usage.prompt_tokens,
      max_model_len: 1024,
      tokens: expect.any(Array),
      token_strs: null,
    })
    expect(body.tokens.length).toBe(body.count)
  })

  it('of a text has the tokens of a completion’s prompt', async () => {
    const { body } = await call('/tokenize', { model: 'demo', prompt: 'How do I use tar?' })
    const answer = await call('/v1/completions', {
      model: 'demo',
      prompt: 'How do I use tar?',
      max_tokens: 1,
    })
    expect(body.count).toBe(answer.body.usage.prompt_tokens)
    const without = await call('/tokenize', { prompt: 'How do I use tar?', add_special_tokens: false })
    expect(without.body.tokens).toEqual(body.tokens.slice(1))
  })

  it('makes special tokens of a text, unless told not to, and never of a message', async () => {
    const { body: info } = await call('/tokenizer_info')
    const prompt = info.eos_token
    const eos = await call('/tokenize', { prompt, add_special_tokens: false, return_token_strs: true })
    expect(eos.body).toMatchObject({ count: 1, token_strs: [prompt] })
    const plain = await call('/tokenize', { prompt, add_special_tokens: false, parse_special: false })
    expect(plain.body.tokens).not.toContain(eos.body.tokens[0])
    const chat = await call('/tokenize', { messages: [{ role: 'user', content: prompt }] })
    expect(chat.body.tokens).not.toContain(eos.body.tokens[0])
  })

  it('leaves out the beginning of the next answer on request', async () => {
    const { body: whole } = await call('/tokenize', { messages })
    const { body: part } = await call('/tokenize', { messages, add_generation_prompt: false })
    expect(whole.tokens.slice(0, part.count)).toEqual(part.tokens)
    expect(part.count).toBeLessThan(whole.count)
  })

  it('counts also what is longer than the context', async () => {
    const { status, body } = await call('/tokenize', { prompt: 'tar '.repeat(5_000) })
    expect(status).toBe(200)
    expect(body.count).toBeGreaterThan(body.max_model_len)
  })

  it.each([
    ['/tokenize', {}, 'prompt'],
    ['/tokenize', { prompt: 'x', messages }, 'prompt'],
    ['/tokenize', { prompt: 7 }, 'prompt'],
    ['/tokenize', { messages: [] }, 'messages'],
    [
      '/tokenize',
      { messages, continue_final_message: true, add_generation_prompt: true },
      'continue_final_message',
    ],
    ['/detokenize', { tokens: ['x'] }, 'tokens.0'],
    ['/detokenize', { tokens: [1, 1_000_000] }, 'tokens.1'],
    ['/detokenize', { model: 'none', tokens: [] }, 'model'],
  ])('%s refuses %j', async (path, request, param) => {
    const { status, body } = await call(path, request)
    expect([status, body.error.param]).toEqual([param === 'model' ? 404 : 400, param])
  })
})

describe('/apply-template', () => {
  it('has the text of the tokens that /tokenize counts', async () => {
    const { body } = await call('/apply-template', { messages })
    expect(body.prompt).toContain('How do I use tar?')
    const { body: tokenized } = await call('/tokenize', { messages })
    const { body: text } = await call('/detokenize', { tokens: tokenized.tokens })
    expect(text.prompt).toBe(body.prompt)
    const { body: without } = await call('/v1/apply-template', { messages, add_generation_prompt: false })
    expect(body.prompt.startsWith(without.prompt)).toBe(true)
    expect(without.prompt.length).toBeLessThan(body.prompt.length)
  })

  it.each([
    [{}, 'messages'],
    [{ messages, prompt: 'x' }, 'prompt'],
    [{ messages, model: 'none' }, 'model'],
  ])('refuses %j', async (request, param) => {
    const { status, body } = await call('/apply-template', request)
    expect([status, body.error.param]).toEqual([param === 'model' ? 404 : 400, param])
  })
})

it.each(['How do I use tar?', ' two  spaces ', 'ein Wörtchen 😀', '</s>[Fork]<s>', ''])(
  '/detokenize gives %j back',
  async (prompt) => {
    const { body } = await call('/tokenize', { prompt, add_special_tokens: false })
    expect(await call('/detokenize', { tokens: body.tokens })).toEqual({ status: 200, body: { prompt } })
  },
)

it('/v1/messages/count_tokens counts as the answer does', async () => {
  const request = { model: 'demo', messages: [...messages, { role: 'system', content: 'Be short.' }] }
  const { body } = await call('/v1/messages/count_tokens', request)
  const ofTheAnswer = { max_tokens: 1, stream: true, temperature: 0, stop_sequences: ['x'], min_tokens: 9 }
  expect((await call('/v1/messages/count_tokens', { ...request, ...ofTheAnswer })).body).toEqual(body)
  const bad = { stop_sequences: 'x', apar: [1], temperature: 'hot' }
  expect((await call('/v1/messages/count_tokens', { ...request, ...bad })).body).toEqual(body)
  const { body: answer } = await call('/v1/messages', { ...request, max_tokens: 1 })
  expect(body).toEqual({
    input_tokens: answer.usage.input_tokens + answer.usage.cache_read_input_tokens,
  })
})

it('/v1/responses/input_tokens counts as the answer does, also what it continues', async () => {
  const tools = [{ type: 'function', name: 'f', parameters: { type: 'object', properties: {} } }]
  const first = { model: 'demo', input: 'How do I use tar?', instructions: 'Be short.', tools }
  const { body: answer } = await call('/v1/responses', { ...first, max_output_tokens: 4 })
  const counted = (request: object) => call('/v1/responses/input_tokens', request)
  const { input_tokens } = answer.usage
  expect((await counted(first)).body).toEqual({ object: 'response.input_tokens', input_tokens })
  const next = { model: 'demo', input: 'And zip?', previous_response_id: answer.id }
  const { body: second } = await call('/v1/responses', { ...next, max_output_tokens: 1 })
  expect((await counted(next)).body.input_tokens).toBe(second.usage.input_tokens)
  expect((await counted({ ...next, model: 'none' })).status).toBe(404)
  expect((await counted({ ...next, max_output_tokens: 1 })).body.error.param).toBe('max_output_tokens')
})

it('a node that has dialled in answers, too', async () => {
  const dialled = await startStack({ dialIn: true })
  try {
    const { body } = await call('/tokenize', { messages }, dialled)
    expect(body).toEqual((await call('/tokenize', { messages })).body)
  } finally {
    await dialled.close()
  }
})
