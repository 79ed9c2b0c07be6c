import OpenAI, { APIError } from 'openai'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import WebSocket from 'ws'
import { openStream } from '../../client/index.ts'
import { type Stack, startStack } from './stack.ts'

const messages = [{ role: 'user' as const, content: 'How do I use tar?' }]
const options = { model: 'demo', messages, temperature: 0, max_tokens: 200 }

let stack: Stack
let openai: OpenAI

beforeAll(async () => {
  stack = await startStack()
  openai = new OpenAI({ baseURL: `${stack.url}/v1`, apiKey: stack.key, maxRetries: 0 })
})

afterAll(async () => {
  await stack?.close()
})

function idle(): void {
  const { runningRequests, liveBranches } = stack.node.runner.stats()
  expect({ runningRequests, liveBranches }).toEqual({ runningRequests: 0, liveBranches: 0 })
}

describe("OpenAI's own client", () => {
  it('lists the model', async () => {
    const { data } = await openai.models.list()
    expect(data).toMatchObject([{ id: 'demo', object: 'model', owned_by: 'apar' }])
  })

  it('gets the text of the branches in document order, streamed or not', async () => {
    const { baseUrl, apiKey } = { baseUrl: stack.url, apiKey: stack.key }
    const request = { model: 'demo', messages, temperature: 0, max_tokens: 200 }
    const branches = openStream({ baseUrl, apiKey, request, WebSocket })
    for await (const _ of branches);
    expect(branches.tree.branches().length).toBeGreaterThan(1)

    const whole = await openai.chat.completions.create(options)
    expect(whole.choices[0]?.message.content).toBe(branches.tree.text())

    let streamed = ''
    let usage: OpenAI.CompletionUsage | null | undefined
    const stream = await openai.chat.completions.create({
      ...options,
      stream: true,
      stream_options: { include_usage: true },
    })
    for await (const chunk of stream) {
      streamed += chunk.choices[0]?.delta.content ?? ''
      usage = chunk.usage
    }
    expect(streamed).toBe(branches.tree.text())
    // Drafts cost time, not tokens: how many there are depends on how long steps take.
    const counts = (of: object | null | undefined) => ({ ...of, apar: undefined })
    expect(counts(usage)).toEqual(counts(whole.usage))
  })

  it('decodes serially when branching is disabled', async () => {
    const { forks } = stack.node.runner.stats()
    const apar = { apar: { enabled: false } }
    const answer = await openai.chat.completions.create({ ...options, ...apar })
    expect(answer.choices[0]?.message.content).not.toBe('')
    expect(stack.node.runner.stats().forks).toBe(forks)
  })

  it.each([
    [{ model: 'nope' }, 404, 'model_not_found', 'model'],
    [{ temperature: 9 }, 400, 'invalid_request', 'temperature'],
    [
      { messages: [{ role: 'user', content: 'word '.repeat(5000) }] },
      400,
      'context_length_exceeded',
      'messages',
    ],
  ])('gets errors with status, code and param: %#', async (fields, status, code, param) => {
    const failing = openai.chat.completions.create({ ...options, ...fields } as typeof options)
    await expect(failing).rejects.toMatchObject({ status, code, param })
    await expect(failing).rejects.toBeInstanceOf(APIError)
  })

  it('frees the engine when it aborts a stream', async () => {
    const stream = await openai.chat.completions.create({ ...options, max_tokens: 900, stream: true })
    for await (const _ of stream) break
    stream.controller.abort()
    await vi.waitFor(idle, { timeout: 30_000 })
    const { usedBlocks } = stack.node.runner.stats()
    expect(usedBlocks).toBe(0)
  })
})

it('is refused with a wrong key', async () => {
  const stranger = new OpenAI({ baseURL: `${stack.url}/v1`, apiKey: `${stack.key}x`, maxRetries: 0 })
  await expect(stranger.models.list()).rejects.toMatchObject({ status: 401, code: 'invalid_api_key' })
})
