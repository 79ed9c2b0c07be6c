import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { openAiUsage } from '../../edge/openai/usage.ts'
import type { ChatCompletion, ChatCompletionChunk, Completion } from '../../shared/openai.ts'
import {
  accepted,
  branchEnd,
  call,
  delta,
  deregister,
  done,
  fakeNodeUrl,
  fork,
  framesSeenByNode,
  heartbeat,
  register,
  request,
} from './support.ts'

/** Branch 2 ends before branch 1, whose text comes earlier in document order. */
const forked = [
  accepted,
  delta(0, '1. One:'),
  fork(0, 1, 7),
  delta(0, '\n2. Two:'),
  fork(0, 2, 15),
  delta(2, ' second.'),
  branchEnd(2),
  delta(0, '\nEnd.'),
  branchEnd(0),
  delta(1, ' fir'),
  delta(1, 'st.'),
  branchEnd(1),
  done(),
]
const text = '1. One: first.\n2. Two: second.\nEnd.'

function complete(steps: unknown[], fields: object = {}): Promise<Response> {
  return call('/v1/chat/completions', { method: 'POST', json: request(steps, fields) })
}

/** The data of an SSE answer, `[DONE]` included. */
async function frames(response: Response): Promise<string[]> {
  const lines = (await response.text()).split('\n\n').filter((line) => line !== '' && !line.startsWith(':'))
  return lines.map((line) => line.replace(/^data: /, ''))
}

function chunksOf(data: string[]): ChatCompletionChunk[] {
  return data.filter((line) => line !== '[DONE]').map((line) => JSON.parse(line))
}

beforeEach(async () => {
  const takes = { branches: 8, blocks: 100, start_fields: ['stop_scope'] }
  await register('openai', heartbeat({ capacity: takes }))
})

describe('a whole answer', () => {
  it('has its text in document order', async () => {
    const response = await complete(forked)
    expect(response.status).toBe(200)
    const answer = await response.json<ChatCompletion>()
    expect(answer).toEqual({
      id: expect.stringMatching(/^chatcmpl-[0-9a-f]{64}$/),
      object: 'chat.completion',
      created: 1_700_000_000,
      model: 'demo',
      system_fingerprint: null,
      choices: [
        {
          index: 0,
          message: { role: 'assistant', content: text, refusal: null },
          logprobs: null,
          finish_reason: 'stop',
        },
      ],
      usage: {
        prompt_tokens: 5,
        completion_tokens: 7,
        total_tokens: 12,
        prompt_tokens_details: { cached_tokens: 2 },
      },
    })
  })

  it.each([
    ['stop', 'stop', 'stop'],
    ['length', 'length', 'length'],
    ['stop', 'length', 'length'],
    ['length', 'stop', 'length'],
    ['abort', 'abort', 'stop'],
  ])('root %s, request %s → %s', async (root, whole, reason) => {
    const response = await complete([accepted, branchEnd(0, root), done(whole)])
    expect((await response.json<ChatCompletion>()).choices[0]?.finish_reason).toBe(reason)
  })
})

describe('a streamed answer', () => {
  it('sends text as soon as nothing can come before it', async () => {
    const response = await complete(forked, { stream: true })
    expect(response.headers.get('content-type')).toContain('text/event-stream')
    const data = await frames(response)
    expect(data.at(-1)).toBe('[DONE]')
    const chunks = chunksOf(data)
    expect(chunks.map(({ choices }) => choices[0]?.delta)).toEqual([
      { role: 'assistant', content: '' },
      { content: '1. One:' },
      { content: ' fir' },
      { content: 'st.' },
      { content: '\n2. Two: second.\nEnd.' },
      {},
    ])
    expect(chunks.map(({ choices }) => choices[0]?.finish_reason)).toEqual([...Array(5).fill(null), 'stop'])
    expect(new Set(chunks.map(({ id }) => id)).size).toBe(1)
    expect(chunks.every((chunk) => !('usage' in chunk))).toBe(true)
  })

  it('ends with the usage when asked, null before', async () => {
    const response = await complete(forked, { stream: true, stream_options: { include_usage: true } })
    const chunks = chunksOf(await frames(response))
    expect(chunks.slice(0, -1).every(({ usage }) => usage === null)).toBe(true)
    expect(chunks.at(-1)).toMatchObject({
      choices: [],
      usage: {
        prompt_tokens: 5,
        completion_tokens: 7,
        total_tokens: 12,
        prompt_tokens_details: { cached_tokens: 2 },
      },
    })
  })

  it('sends an error as its last data', async () => {
    vi.spyOn(console, 'error').mockImplementation(() => {})
    const data = await frames(
      await complete([[accepted, delta(0, 'a'), { die: true }], [{ die: true }]], { stream: true }),
    )
    expect(data).toHaveLength(3)
    expect(JSON.parse(data[2] ?? '')).toMatchObject({
      error: { code: 'gpu_node_lost', type: 'server_error' },
    })
  })

  it('cancels upstream when the client disconnects', async () => {
    const response = await complete([accepted, delta(0, 'a'), { await: 'frame' }, done('abort')], {
      stream: true,
    })
    const reader = response.body?.getReader()
    const { value } = (await reader?.read()) ?? {}
    const [chunk] = chunksOf([
      new TextDecoder()
        .decode(value)
        .trim()
        .replace(/^data: /, ''),
    ])
    await reader?.cancel()
    const seen = await framesSeenByNode(chunk?.id.replace('chatcmpl-', '') ?? '')
    expect(seen.map(({ type }) => type)).toEqual(['start', 'cancel', 'ack'])
  })
})

describe('a gpu node that is lost', () => {
  afterEach(async () => {
    await deregister('openai-2')
  })

  // The later lists are for the nodes that the stream moves to; each continues behind the events of the one before.
  it.each([
    ['before the first event', [[{ die: true }], forked]],
    ['after accepted', [[...forked.slice(0, 1), { die: true }], forked.slice(1)]],
    ['in the middle', [[...forked.slice(0, 6), { die: true }], forked.slice(6)]],
    ['because it shuts down', [[...forked.slice(0, 9), { restart: true }], forked.slice(9)]],
    [
      'twice',
      [[...forked.slice(0, 3), { die: true }], [...forked.slice(3, 8), { die: true }], forked.slice(8)],
    ],
    ['only as a connection', [...forked.slice(0, 6), { drop: true }, ...forked.slice(6)]],
  ])('loses no text: %s', async (_, steps) => {
    vi.spyOn(console, 'error').mockImplementation(() => {})
    // One address is one node.
    await register('openai-2', heartbeat({ url: `${fakeNodeUrl}/` }))
    const whole = await (await complete(steps)).json<ChatCompletion>()
    expect(whole.choices[0]?.message.content).toBe(text)
    expect(whole.usage?.completion_tokens).toBe(7)
    const data = await frames(await complete(steps, { stream: true }))
    expect(data.at(-1)).toBe('[DONE]')
    expect(
      chunksOf(data)
        .map(({ choices }) => choices[0]?.delta.content ?? '')
        .join(''),
    ).toBe(text)
  })

  it('is 503 with Retry-After when there is no other node and no event was sent', async () => {
    vi.spyOn(console, 'error').mockImplementation(() => {})
    const response = await complete([[{ die: true }], forked])
    expect(response.status).toBe(503)
    expect(response.headers.get('retry-after')).toBe('5')
    expect(await response.json()).toMatchObject({ error: { code: 'no_gpu_node' } })
  })
})

describe('refusals', () => {
  it.each([{ stream: false }, { stream: true }])('have the status of their code %o', async (fields) => {
    const unknown = await complete(forked, { ...fields, model: 'nope' })
    expect(unknown.status).toBe(404)
    expect(await unknown.json()).toMatchObject({ error: { code: 'model_not_found', param: 'model' } })
    const refusal = { type: 'error', code: 'overloaded', message: 'queue full', param: null }
    const busy = await complete([refusal], fields)
    expect(busy.status).toBe(503)
    expect(busy.headers.get('retry-after')).toBe('5')
    expect(await busy.json()).toMatchObject({ error: { message: 'queue full', type: 'server_error' } })
  })

  it('is 502 when the node is lost before the end', async () => {
    vi.spyOn(console, 'error').mockImplementation(() => {})
    const response = await complete([[accepted, delta(0, 'a'), { die: true }], [{ die: true }]])
    expect(response.status).toBe(502)
  })

  it.each([
    [{ messages: [] }, 'messages'],
    [{ messages: [{ role: 'critic', content: 'x' }] }, 'messages.0.role'],
    [
      { messages: [{ role: 'user', content: [{ type: 'image_url', image_url: {} }] }] },
      'messages.0.content.0.type',
    ],
    [{ temperature: 3 }, 'temperature'],
    [{ apar: { repetition_penalty: 1e-40 } }, 'apar.repetition_penalty'],
    [{ apar: { repetition_penalty: 5e-324 } }, 'apar.repetition_penalty'],
    [{ logit_bias: { 7: 1, '07': 2 } }, 'logit_bias'],
    [{ n: 17 }, 'n'],
    [{ tools: [{ type: 'function' }] }, 'tools.0.function'],
    [{ top_logprobs: 2 }, 'top_logprobs'],
    [{ logprobs: true, top_logprobs: 21 }, 'top_logprobs'],
    [{ logit_bias: { word: 1 } }, 'logit_bias.word'],
    [{ apar: { branch_deltas: true } }, 'apar.branch_deltas'],
    [{ verbosity: 'high' }, 'verbosity'],
    [{ response_format: { type: 'xml' } }, 'response_format.type'],
    [{ frequency_penalty: 3 }, 'frequency_penalty'],
    [{ best_of: 3 }, 'best_of'],
    [{ stop: ['a', ''] }, 'stop.1'],
    [{ apar: { max_depth: 0 } }, 'apar.max_depth'],
    [{ apar: { depth: 2 } }, 'apar.depth'],
  ])('%o → 400 at %s', async (fields, param) => {
    const response = await complete([], fields)
    expect(response.status).toBe(400)
    const { error } = await response.json<{ error: { message: string } }>()
    expect(error).toMatchObject({ code: 'invalid_request', type: 'invalid_request_error', param })
    expect(error.message).toContain(param)
  })

  it('reports invalid JSON', async () => {
    const response = await call('/v1/chat/completions', { method: 'POST', body: '{' })
    expect(response.status).toBe(400)
    expect(await response.json()).toMatchObject({ error: { code: 'invalid_json' } })
  })
})

it('translates every field that it supports', async () => {
  const response = await complete([accepted, done()], {
    messages: [
      {
        role: 'developer',
        content: [
          { type: 'text', text: 'Be' },
          { type: 'text', text: ' brief.' },
        ],
      },
      { role: 'assistant', content: 'Yes?', refusal: null },
      { role: 'user', content: JSON.stringify([accepted, done()]) },
    ],
    max_tokens: 5,
    max_completion_tokens: 6,
    temperature: null,
    top_p: 0.9,
    stop: '\n\n',
    seed: 7,
    n: 1,
    frequency_penalty: 0.5,
    presence_penalty: -1,
    logit_bias: { 7: -100 },
    logprobs: true,
    top_logprobs: 3,
    user: 'me',
    metadata: { a: 'b' },
    apar: { enabled: false, top_k: 40, repetition_penalty: 1.1 },
  })
  const { id } = await response.json<ChatCompletion>()
  const [start] = await framesSeenByNode(id.replace('chatcmpl-', ''))
  expect(start?.request).toEqual({
    model: 'demo',
    messages: [
      { role: 'system', content: 'Be brief.' },
      { role: 'assistant', content: 'Yes?' },
      { role: 'user', content: JSON.stringify([accepted, done()]) },
    ],
    max_tokens: 6,
    top_p: 0.9,
    top_k: 40,
    repetition_penalty: 1.1,
    frequency_penalty: 0.5,
    presence_penalty: -1,
    logit_bias: { 7: -100 },
    logprobs: 3,
    seed: 7,
    stop: ['\n\n'],
    stop_scope: 'document',
    branching: { enabled: false },
  })
})

it('takes top_p 0 as the smallest value', async () => {
  const response = await complete([accepted, done()], { top_p: 0 })
  const { id } = await response.json<ChatCompletion>()
  const [start] = await framesSeenByNode(id.replace('chatcmpl-', ''))
  expect(start?.request).toMatchObject({ top_p: 1e-45 })
})

function row(at: number, token: string) {
  const bytes = [...new TextEncoder().encode(token)]
  return { at, token, bytes, logprob: -at - 0.5, top: [{ token, bytes, logprob: -at - 0.5 }] }
}

/** In document order the child's text comes before the parent's continuation, but the parent ends first. */
const withLogprobs = [
  { ...accepted, fingerprint: 'fp_test' },
  { ...delta(0, 'ab'), logprobs: [row(0, 'a'), row(1, 'b')] },
  fork(0, 1, 2),
  { ...delta(0, 'e'), logprobs: [row(2, 'e')] },
  { ...delta(1, 'c'), logprobs: [row(0, 'c')] },
  branchEnd(0),
  { ...delta(1, 'd'), logprobs: [row(1, 'd')] },
  branchEnd(1),
  done(),
]

describe('log-probabilities', () => {
  it('come in document order, with the text of their tokens', async () => {
    const whole = await (await complete(withLogprobs, { logprobs: true })).json<ChatCompletion>()
    expect(whole.system_fingerprint).toBe('fp_test')
    const [choice] = whole.choices
    expect(choice?.message.content).toBe('abcde')
    expect(choice?.logprobs?.content.map(({ token }) => token).join('')).toBe('abcde')
    expect(choice?.logprobs?.content[1]).toEqual({
      token: 'b',
      bytes: [98],
      logprob: -1.5,
      top_logprobs: [{ token: 'b', bytes: [98], logprob: -1.5 }],
    })
    const chunks = chunksOf(
      await frames(await complete(withLogprobs, { logprobs: true, top_logprobs: 1, stream: true })),
    )
    for (const { choices } of chunks) {
      const tokens = choices[0]?.logprobs?.content.map(({ token }) => token).join('')
      expect(tokens ?? '').toBe(choices[0]?.delta.content ?? '')
    }
  })

  it('are null when not requested', async () => {
    // In a request null means absent.
    const response = await complete(withLogprobs, { logprobs: null, apar: null })
    expect((await response.json<ChatCompletion>()).choices[0]?.logprobs).toBeNull()
  })
})

describe('several choices', () => {
  it('have found in the cache what none of them had to compute', () => {
    const usage = (cached_prompt_tokens: number) => ({
      ...{ prompt_tokens: 9, cached_prompt_tokens, completion_tokens: 1, total_tokens: 10, branches: [] },
    })
    const usages = [usage(8), usage(3), usage(8), usage(5), usage(8), usage(8)]
    expect(openAiUsage(usages, 3)).toMatchObject({
      ...{ prompt_tokens: 18, prompt_tokens_details: { cached_tokens: 8 } },
    })
  })

  it('are separate streams with their own seeds, and share the prompt in the usage', async () => {
    const response = await complete(forked, { n: 3, seed: 4_294_967_294 })
    const whole = await response.json<ChatCompletion>()
    expect(whole.choices.map(({ index, message }) => [index, message.content])).toEqual([
      [0, text],
      [1, text],
      [2, text],
    ])
    expect(whole.usage).toMatchObject({ prompt_tokens: 5, completion_tokens: 21, total_tokens: 26 })
  })

  it('have their index in each chunk', async () => {
    const fields = { n: 2, stream: true, stream_options: { include_usage: true } }
    const chunks = chunksOf(await frames(await complete(forked, fields)))
    for (const index of [0, 1]) {
      const own = chunks.flatMap(({ choices }) => choices.filter((choice) => choice.index === index))
      expect(own[0]?.delta).toEqual({ role: 'assistant', content: '' })
      expect(own.map(({ delta }) => delta.content ?? '').join('')).toBe(text)
      expect(own.at(-1)?.finish_reason).toBe('stop')
    }
    expect(chunks.at(-1)).toMatchObject({ choices: [], usage: { completion_tokens: 14 } })
  })

  it('end together when one of them fails', async () => {
    vi.spyOn(console, 'error').mockImplementation(() => {})
    const response = await complete([[accepted, delta(0, 'a'), { die: true }], [{ die: true }]], { n: 3 })
    expect(response.status).toBe(502)
  })
})

it('sends deltas with their branch when requested', async () => {
  const chunks = chunksOf(
    await frames(await complete(forked, { stream: true, apar: { branch_deltas: true } })),
  )
  expect(chunks.map(({ apar, choices }) => [apar, choices[0]?.delta.content])).toEqual([
    [{ event: 'accepted', joints: 'kept' }, ''],
    [{ event: 'delta', branch: 0 }, '1. One:'],
    [{ event: 'fork', branch: 1, parent: 0, at: 7 }, undefined],
    [{ event: 'delta', branch: 0 }, '\n2. Two:'],
    [{ event: 'fork', branch: 2, parent: 0, at: 15 }, undefined],
    [{ event: 'delta', branch: 2 }, ' second.'],
    [{ event: 'branch_end', branch: 2, reason: 'stop' }, undefined],
    [{ event: 'delta', branch: 0 }, '\nEnd.'],
    [{ event: 'branch_end', branch: 0, reason: 'stop' }, undefined],
    [{ event: 'delta', branch: 1 }, ' fir'],
    [{ event: 'delta', branch: 1 }, 'st.'],
    [{ event: 'branch_end', branch: 1, reason: 'stop' }, undefined],
    [undefined, undefined],
  ])
})

describe('/v1/completions', () => {
  const create = (prompt: unknown, fields: object = {}) =>
    call('/v1/completions', { method: 'POST', json: { model: 'demo', prompt, ...fields } })

  it('continues a text, without a template', async () => {
    const response = await create(JSON.stringify(withLogprobs), { max_tokens: 9, logprobs: 1 })
    const answer = await response.json<Completion>()
    expect(answer).toMatchObject({ object: 'text_completion', model: 'demo', usage: { total_tokens: 12 } })
    expect(answer.choices).toEqual([
      {
        index: 0,
        text: 'abcde',
        finish_reason: 'stop',
        logprobs: {
          tokens: ['a', 'b', 'c', 'd', 'e'],
          token_logprobs: [-0.5, -1.5, -0.5, -1.5, -2.5],
          top_logprobs: [{ a: -0.5 }, { b: -1.5 }, { c: -0.5 }, { d: -1.5 }, { e: -2.5 }],
          text_offset: [0, 1, 2, 3, 4],
        },
      },
    ])
    const [start] = await framesSeenByNode(answer.id.replace('cmpl-', ''))
    expect(start?.request).toMatchObject({ raw_prompt: true, max_tokens: 9, logprobs: 1 })
  })

  it('takes several prompts, with several choices each', async () => {
    const prompts = [forked, withLogprobs].map((steps) => JSON.stringify(steps))
    const answer = await (await create(prompts, { n: 2 })).json<Completion>()
    expect(answer.choices.map((choice) => choice.text)).toEqual([text, text, 'abcde', 'abcde'])
    expect(answer.usage).toMatchObject({ prompt_tokens: 10, completion_tokens: 28 })
  })

  it('streams', async () => {
    const fields = { stream: true, stream_options: { include_usage: true }, logprobs: 0 }
    const data = await frames(await create(JSON.stringify(withLogprobs), fields))
    const chunks: Completion[] = data.slice(0, -1).map((line) => JSON.parse(line))
    expect(chunks.map(({ choices }) => choices[0]?.text ?? '').join('')).toBe('abcde')
    const offsets = chunks.flatMap(({ choices }) => choices[0]?.logprobs?.text_offset ?? [])
    expect(offsets).toEqual([0, 1, 2, 3, 4])
    expect(chunks.at(-2)?.choices[0]?.finish_reason).toBe('stop')
    expect(chunks.at(-1)).toMatchObject({ choices: [], usage: { total_tokens: 12 } })
    expect(data.at(-1)).toBe('[DONE]')
  })

  it.each([
    [{ prompt: [1, 'a'] }, 'prompt'],
    [{ echo: 'yes' }, 'echo'],
    [{ best_of: 1, n: 2 }, 'best_of'],
    [{ best_of: 2, stream: true }, 'best_of'],
    [{ best_of: 17 }, 'best_of'],
    [{ suffix: 'x' }, 'suffix'],
    [{ messages: [] }, 'messages'],
  ])('%o → 400 at %s', async (fields, param) => {
    const response = await create('x', fields)
    expect(response.status).toBe(400)
    expect(await response.json()).toMatchObject({ error: { code: 'invalid_request', param } })
  })
})
