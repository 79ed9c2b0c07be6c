import { beforeEach, describe, expect, it } from 'vitest'
import { accepted, branchEnd, call, delta, done, fork, framesSeenByNode, register } from './support.ts'

/** Branch 0 ends before branch 1, whose text comes earlier in document order. */
const forked = [
  accepted,
  delta(0, '1. One:'),
  fork(0, 1, 7),
  delta(0, '\nEnd.'),
  branchEnd(0),
  delta(1, ' first.'),
  branchEnd(1),
  done(),
]
const text = '1. One: first.\nEnd.'
const cut = [accepted, delta(0, 'begun'), branchEnd(0, 'length'), done('length')]
const failing = [
  accepted,
  delta(0, 'begun'),
  { type: 'error', code: 'invalid_request', message: 'no more', param: null },
]
const refused = [{ type: 'error', code: 'context_length_exceeded', message: 'too long', param: 'messages' }]

interface Event {
  type: string
  [field: string]: unknown
}

/** Parses named events; each name must equal its data's `type`. */
async function eventsOf(response: Response): Promise<Event[]> {
  expect(response.headers.get('content-type')).toContain('text/event-stream')
  const blocks = (await response.text())
    .split('\n\n')
    .filter((block) => block !== '' && !block.startsWith(':'))
  return blocks.map((block) => {
    const [, name, json] = block.match(/^event: (\S+)\ndata: (.*)$/) ?? []
    const event: Event = JSON.parse(json ?? '')
    expect(event.type).toBe(name)
    return event
  })
}

beforeEach(async () => {
  await register('named')
})

describe('/v1/responses', () => {
  const respond = (steps: unknown[], fields: object = {}) => {
    return call('/v1/responses', {
      method: 'POST',
      json: { model: 'demo', input: JSON.stringify(steps), ...fields },
    })
  }

  it('answers with one message, its text in document order', async () => {
    const answer = await (await respond(forked)).json<Event>()
    expect(answer).toMatchObject({
      id: expect.stringMatching(/^resp_[0-9a-f]{64}$/),
      object: 'response',
      status: 'completed',
      model: 'demo',
      store: true,
      error: null,
      incomplete_details: null,
      output: [
        {
          type: 'message',
          role: 'assistant',
          status: 'completed',
          content: [{ type: 'output_text', text, annotations: [] }],
        },
      ],
      usage: {
        input_tokens: 5,
        input_tokens_details: { cached_tokens: 2 },
        output_tokens: 7,
        output_tokens_details: { reasoning_tokens: 0 },
        total_tokens: 12,
      },
    })
  })

  it('streams events with their names and numbers', async () => {
    const events = await eventsOf(await respond(forked, { stream: true }))
    expect(events.map(({ type }) => type.replace('response.', ''))).toEqual([
      'created',
      'in_progress',
      'output_item.added',
      'content_part.added',
      'output_text.delta',
      'output_text.delta',
      'output_text.delta',
      'output_text.done',
      'content_part.done',
      'output_item.done',
      'completed',
    ])
    expect(events.map(({ sequence_number }) => sequence_number)).toEqual(events.map((_, index) => index))
    expect(events.flatMap(({ delta }) => delta ?? []).join('')).toBe(text)
    const { response } = events.at(-1) as Event
    const whole = await (await respond(forked)).json<Event>()
    const nameless = (json: unknown) =>
      JSON.parse(JSON.stringify(json).replace(/(resp|msg)_[0-9a-f]{64}/g, '$1'))
    expect(nameless(response)).toEqual(nameless(whole))
  })

  it('reports an answer that was cut, and one that failed', async () => {
    const last = async (steps: unknown[]) => (await eventsOf(await respond(steps, { stream: true }))).at(-1)
    expect(await last(cut)).toMatchObject({
      type: 'response.incomplete',
      response: { status: 'incomplete', incomplete_details: { reason: 'max_output_tokens' } },
    })
    expect(await last(failing)).toMatchObject({
      type: 'response.failed',
      sequence_number: 5,
      response: {
        status: 'failed',
        error: { code: 'invalid_request', message: 'no more' },
        output: [{ content: [{ text: 'begun' }] }],
      },
    })
    const response = await respond(refused, { stream: true })
    expect(response.status).toBe(400)
    expect(await response.json()).toMatchObject({ error: { code: 'context_length_exceeded' } })
  })

  it('passes its fields on to the gpu node', async () => {
    const input = [
      { role: 'developer', content: 'Be short.' },
      { type: 'message', role: 'user', content: [{ type: 'input_text', text: 'Hi' }] },
      { role: 'assistant', id: 'msg_1', content: [{ type: 'output_text', text: 'Hello', annotations: [] }] },
      { role: 'user', content: JSON.stringify([accepted, done()]) },
    ]
    const fields = { input, instructions: 'Rhyme.', max_output_tokens: 9, temperature: 0.5, top_p: null }
    const { id } = await (await respond([], { ...fields, apar: { enabled: false, top_k: 3 } })).json<{
      id: string
    }>()
    const [start] = await framesSeenByNode(id.replace('resp_', ''))
    expect(start).toMatchObject({
      request: {
        messages: [
          { role: 'system', content: 'Rhyme.' },
          { role: 'system', content: 'Be short.' },
          { role: 'user', content: 'Hi' },
          { role: 'assistant', content: 'Hello' },
          { role: 'user' },
        ],
        max_tokens: 9,
        temperature: 0.5,
        top_k: 3,
        branching: { enabled: false },
      },
    })
  })

  it.each([
    ['previous_response_id', 'chatcmpl-1'],
    ['conversation', 'conv_1'],
    ['tools', [{ type: 'file_search' }]],
    ['text', { format: { type: 'json_schema' } }],
    ['input', [{ type: 'computer_call', call_id: 'a' }]],
    ['stop', ['x']],
  ])('refuses %s %j', async (name, value) => {
    const response = await respond([accepted, done()], { [name]: value })
    expect(response.status).toBe(400)
    const { error } = await response.json<{ error: { code: string; param: string } }>()
    expect(error.code).toBe('invalid_request')
    expect(error.param.split('.')[0]).toBe(name)
  })
})

describe('/v1/messages', () => {
  const ask = (steps: unknown[], fields: object = {}, init: { key?: string } = {}) => {
    const messages = [{ role: 'user', content: JSON.stringify(steps) }]
    return call('/v1/messages', {
      method: 'POST',
      json: { model: 'demo', max_tokens: 64, messages, ...fields },
      ...init,
    })
  }

  it('answers with one text block, in document order', async () => {
    expect(await (await ask(forked)).json()).toEqual({
      id: expect.stringMatching(/^msg_[0-9a-f]{64}$/),
      type: 'message',
      role: 'assistant',
      model: 'demo',
      content: [{ type: 'text', text, citations: null }],
      stop_reason: 'end_turn',
      stop_sequence: null,
      usage: {
        input_tokens: 3,
        cache_creation_input_tokens: 0,
        cache_read_input_tokens: 2,
        output_tokens: 7,
      },
    })
    expect(await (await ask(cut)).json()).toMatchObject({ stop_reason: 'max_tokens' })
  })

  it('says what was written to the cache, where something is marked for it', async () => {
    const text = { type: 'text', text: JSON.stringify(forked), cache_control: { type: 'ephemeral' } }
    const messages = [{ role: 'user', content: [text] }]
    const usage = {
      ...{ input_tokens: 0, cache_creation_input_tokens: 3, cache_read_input_tokens: 2, output_tokens: 7 },
    }
    expect(await (await ask([], { messages })).json()).toMatchObject({ usage })
    const events = await eventsOf(await ask([], { messages, stream: true }))
    expect(events.find(({ type }) => type === 'message_delta')).toMatchObject({ usage })
  })

  it('streams events with their names', async () => {
    const events = await eventsOf(await ask(forked, { stream: true }))
    expect(events.map(({ type }) => type)).toEqual([
      'message_start',
      'content_block_start',
      'content_block_delta',
      'content_block_delta',
      'content_block_delta',
      'content_block_stop',
      'message_delta',
      'message_stop',
    ])
    const texts = events.flatMap(({ delta }) => (delta as { text?: string } | undefined)?.text ?? [])
    expect(texts.join('')).toBe(text)
    expect(events.at(-2)).toMatchObject({
      delta: { stop_reason: 'end_turn' },
      usage: { input_tokens: 3, cache_read_input_tokens: 2, output_tokens: 7 },
    })
  })

  it('sends errors in the format of Anthropic', async () => {
    const last = (await eventsOf(await ask(failing, { stream: true }))).at(-1)
    expect(last).toMatchObject({
      type: 'error',
      error: { type: 'invalid_request_error', message: 'no more' },
    })
    const response = await ask(refused, { stream: true })
    expect(response.status).toBe(400)
    const error = { type: 'invalid_request_error', code: 'context_length_exceeded', param: 'messages' }
    expect(await response.json()).toMatchObject({ type: 'error', error })
    const stranger = await ask(forked, {}, { key: 'wrong' })
    expect(stranger.status).toBe(401)
    expect(await stranger.json()).toMatchObject({ type: 'error', error: { type: 'authentication_error' } })
  })

  it('passes its fields on to the gpu node', async () => {
    const messages = [
      { role: 'user', content: [{ type: 'text', text: 'Hi', cache_control: { type: 'ephemeral' } }] },
      { role: 'assistant', content: 'Hello' },
      { role: 'user', content: JSON.stringify([accepted, done()]) },
    ]
    const fields = { messages, system: 'Be short.', stop_sequences: ['END'], top_k: 5, max_tokens: 9 }
    const { id } = await (await ask([], { ...fields, apar: { max_branches: 2 } })).json<{ id: string }>()
    const [start] = await framesSeenByNode(id.replace('msg_', ''))
    expect(start).toMatchObject({
      request: {
        messages: [
          { role: 'system', content: 'Be short.' },
          { role: 'user', content: 'Hi' },
          { role: 'assistant', content: 'Hello' },
          { role: 'user' },
        ],
        stop: ['END'],
        top_k: 5,
        max_tokens: 9,
        branching: { max_branches: 2 },
      },
    })
  })

  it.each([
    ['max_tokens', undefined],
    ['tools', [{ type: 'bash_20250124', name: 'bash' }]],
    ['tool_choice', { type: 'any' }],
    ['thinking', { type: 'enabled', budget_tokens: 'many' }],
    ['temperature', 1.5],
    ['messages', [{ role: 'user', content: [{ type: 'image', source: {} }] }]],
    ['mcp_servers', [{ type: 'url', url: 'https://a.example', name: 'a' }]],
  ])('refuses %s %j', async (name, value) => {
    const response = await ask([accepted, done()], { [name]: value })
    expect(response.status).toBe(400)
    const { error } = await response.json<{ error: { code: string; param: string } }>()
    expect(error.code).toBe('invalid_request')
    expect(error.param.split('.')[0]).toBe(name)
  })
})
