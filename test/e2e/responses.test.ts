import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import Anthropic, { APIError as AnthropicError } from '@anthropic-ai/sdk'
import OpenAI, { APIError as OpenAIError } from 'openai'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { buildEdge } from '../../edge/build.mjs'
import { type Stack, startStack } from './stack.ts'

const content = 'How do I use tar?'
const messages = [{ role: 'user' as const, content }]
/** Greedy; the answer has several branches. */
const common = { model: 'demo', temperature: 0 }

let stack: Stack
let openai: OpenAI
let anthropic: Anthropic
/** The answer of chat/completions. */
let text: string

beforeAll(async () => {
  await buildEdge()
  stack = await startStack()
  openai = new OpenAI({ baseURL: `${stack.url}/v1`, apiKey: stack.key, maxRetries: 0 })
  anthropic = new Anthropic({ baseURL: stack.url, apiKey: stack.key, maxRetries: 0 })
  const chat = await openai.chat.completions.create({ ...common, messages, max_tokens: 700 })
  text = chat.choices[0]?.message.content ?? ''
  expect(stack.node.runner.stats().forks).toBeGreaterThan(0)
})
afterAll(() => stack?.close())

async function curl(path: string, headers: string[], json: object): Promise<string> {
  const args = ['-sS', '-N', `${stack.url}${path}`, ...headers.flatMap((header) => ['-H', header])]
  return (await promisify(execFile)('curl', [...args, '-d', JSON.stringify(json)])).stdout
}

async function idle(): Promise<void> {
  await vi.waitFor(() => expect(stack.node.runner.stats().runningRequests).toBe(0), 10_000)
}

describe("OpenAI's responses.create", () => {
  const ask = { ...common, input: content, max_output_tokens: 700 }

  it('gets the whole answer', async () => {
    const response = await openai.responses.create(ask)
    expect(response).toMatchObject({ status: 'completed', output_text: text })
    expect(response.usage?.output_tokens).toBeGreaterThan(0)
    const cut = await openai.responses.create({ ...ask, max_output_tokens: 8 })
    expect(cut).toMatchObject({ status: 'incomplete', incomplete_details: { reason: 'max_output_tokens' } })
  })

  it('streams it', async () => {
    let streamed = ''
    let numbers = 0
    let last: OpenAI.Responses.ResponseStreamEvent | undefined
    for await (const event of await openai.responses.create({ ...ask, stream: true })) {
      expect(event.sequence_number).toBe(numbers++)
      if (event.type === 'response.output_text.delta') streamed += event.delta
      last = event
    }
    expect(streamed).toBe(text)
    expect(last).toMatchObject({ type: 'response.completed', response: { status: 'completed' } })
    // The client's own accumulator accepts the events, too.
    const final = await openai.responses.stream(ask).finalResponse()
    expect(final.output_text).toBe(text)
  })

  it('goes on with a stored response, reads and deletes it', async () => {
    const first = await openai.responses.create(ask)
    const { output_text: _, ...returned } = await openai.responses.retrieve(first.id)
    expect(returned).toMatchObject({ id: first.id, output: first.output, usage: first.usage, store: true })
    const next = { ...ask, input: 'And zip?', max_output_tokens: 8 }
    const second = await openai.responses.create({ ...next, previous_response_id: first.id })
    const alone = await openai.responses.create({ ...next, store: false })
    const turns = [
      { role: 'user', content },
      { role: 'assistant', content: text },
      { role: 'user', content: next.input },
    ] as const
    const sent = await openai.responses.create({ ...next, input: [...turns] })
    expect(second.usage?.input_tokens).toBe(sent.usage?.input_tokens)
    expect(second.usage?.input_tokens).toBeGreaterThan(alone.usage?.input_tokens ?? 0)
    const items = await openai.responses.inputItems.list(second.id)
    expect(items.data).toMatchObject([{ type: 'message', content: [{ text: next.input }] }])
    await openai.responses.delete(first.id)
    await expect(openai.responses.retrieve(first.id)).rejects.toMatchObject({ status: 404 })
    const gone = openai.responses.create({ ...next, previous_response_id: first.id })
    const error = { status: 400, code: 'previous_response_not_found', param: 'previous_response_id' }
    await expect(gone).rejects.toMatchObject(error)
  })

  it('runs one in the background, polls it and reads its events again', async () => {
    const first = await openai.responses.create({ ...ask, background: true })
    expect(['queued', 'in_progress']).toContain(first.status)
    const polled = async () => {
      const response = await openai.responses.retrieve(first.id)
      expect(response).toMatchObject({ status: 'completed', output: [{ content: [{ text }] }] })
    }
    await vi.waitFor(polled, 30_000)
    let streamed = ''
    const after = { stream: true, starting_after: 2 } as const
    for await (const event of await openai.responses.retrieve(first.id, after)) {
      expect(event.sequence_number).toBeGreaterThan(2)
      if (event.type === 'response.output_text.delta') streamed += event.delta
    }
    expect(streamed).toBe(text)
  })

  it('cancels one in the background', async () => {
    const endless = {
      ...ask,
      max_output_tokens: 900,
      ignore_eos: true,
      background: true,
      stream: true as const,
    }
    let id = ''
    for await (const event of await openai.responses.create(endless)) {
      if (event.type === 'response.created') id = event.response.id
      if (event.type === 'response.output_text.delta') break
    }
    expect(await openai.responses.cancel(id)).toMatchObject({ id, status: 'cancelled' })
    await idle()
  })

  it('gets an error for an unsupported field', async () => {
    const refused = openai.responses.create({ ...ask, conversation: 'conv_1' })
    await expect(refused).rejects.toBeInstanceOf(OpenAIError)
    await expect(refused).rejects.toMatchObject({ status: 400, param: 'conversation' })
  })

  it('ends the generation when it disconnects', async () => {
    const stream = await openai.responses.create({ ...ask, temperature: 2, stream: true })
    for await (const event of stream) if (event.type === 'response.output_text.delta') break
    await idle()
  })
})

describe("Anthropic's client", () => {
  const ask = { ...common, messages, max_tokens: 700 }

  it('gets the whole answer, with the key in x-api-key', async () => {
    const message = await anthropic.messages.create(ask)
    expect(message).toMatchObject({ stop_reason: 'end_turn', content: [{ type: 'text', text }] })
    const cut = await anthropic.messages.create({ ...ask, max_tokens: 8 })
    expect(cut).toMatchObject({ stop_reason: 'max_tokens' })
  })

  it('streams it, and assembles the same message from the events', async () => {
    let streamed = ''
    const stream = anthropic.messages.stream(ask)
    stream.on('text', (delta) => {
      streamed += delta
    })
    const message = await stream.finalMessage()
    expect(streamed).toBe(text)
    expect(message).toMatchObject({ stop_reason: 'end_turn', content: [{ type: 'text', text }] })
    expect(message.usage.output_tokens).toBeGreaterThan(0)
    expect(message.usage.input_tokens + (message.usage.cache_read_input_tokens ?? 0)).toBeGreaterThan(0)
  })

  it('stops at its stop sequences', async () => {
    const stop = text.slice(10, 16)
    const { content } = await anthropic.messages.create({ ...ask, stop_sequences: [stop] })
    expect(content).toMatchObject([{ text: text.slice(0, text.indexOf(stop)) }])
  })

  it('gets an error with status and type', async () => {
    const refused = anthropic.messages.create({ ...ask, model: 'nope' })
    await expect(refused).rejects.toBeInstanceOf(AnthropicError)
    await expect(refused).rejects.toMatchObject({ status: 404, type: 'not_found_error' })
  })

  it('ends the generation when it disconnects', async () => {
    const hot = { ...ask, temperature: 1, stream: true as const }
    const stream = await anthropic.messages.create(hot)
    for await (const event of stream) if (event.type === 'content_block_delta') break
    await idle()
  })
})

describe('curl', () => {
  it('reads named events', async () => {
    const key = `authorization: Bearer ${stack.key}`
    const responses = await curl('/v1/responses', [key], { model: 'demo', input: content, stream: true })
    expect(responses).toMatch(/^event: response\.created\ndata: \{"type":"response\.created",/)
    expect(responses).not.toContain('[DONE]')
    const body = { model: 'demo', messages, max_tokens: 8, stream: true }
    const answer = await curl(
      '/v1/messages',
      [`x-api-key: ${stack.key}`, 'anthropic-version: 2023-06-01'],
      body,
    )
    expect(answer).toMatch(/event: message_stop\ndata: \{"type":"message_stop"\}\n\n$/)
  })
})
