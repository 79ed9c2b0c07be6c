import { generateText, jsonSchema, Output, streamText, tool } from 'ai'
import { describe, expect, test } from 'vitest'
import { accepted, delta, FORKED, FORKED_TEXT, fakeEdge, finish, toolCalls, usage } from './fake-edge.ts'

const prompt = 'How do I pack files?'

describe('a streamed answer', () => {
  test('is in document order, each piece as soon as nothing can come before it', async () => {
    const result = streamText({ model: fakeEdge(FORKED).apar('demo'), prompt })
    const pieces = []
    for await (const piece of result.textStream) pieces.push(piece)
    expect(pieces).toEqual(['List:\n1. tar', ': packs', ' files', '\n2. gzip: shrinks'])
  })

  test('is one block of text, with usage and finish reason', async () => {
    const result = streamText({ model: fakeEdge(FORKED).apar('demo'), prompt })
    const types: string[] = []
    for await (const { type } of result.fullStream) types.push(type)
    expect(types.filter((type) => type !== 'text-delta')).toEqual([
      ...['start', 'start-step', 'text-start', 'text-end', 'finish-step', 'finish'],
    ])
    expect(await result.text).toBe(FORKED_TEXT)
    expect(await result.finishReason).toBe('stop')
    expect(await result.usage).toMatchObject({ inputTokens: 5, outputTokens: 7, cachedInputTokens: 3 })
    expect(await result.response).toMatchObject({ id: 'chatcmpl-1', modelId: 'demo' })
  })

  test('ends with its branches', async () => {
    const result = streamText({ model: fakeEdge(FORKED).apar('demo'), prompt })
    await result.consumeStream()
    expect((await result.providerMetadata)?.apar?.branches).toEqual([
      { branch: 0, parent: null, at: 0, text: 'List:\n1. tar\n2. gzip', reason: 'stop' },
      { branch: 1, parent: 0, at: 12, text: ': packs files', reason: 'stop' },
      { branch: 2, parent: 0, at: 20, text: ': shrinks', reason: 'length' },
    ])
  })

  test('of a server that does not name branches is passed on', async () => {
    const chunks = ['one', ' two'].map((text) => ({ ...delta(0, text), apar: undefined }))
    const result = streamText({ model: fakeEdge([...chunks, finish('length'), usage]).apar('demo'), prompt })
    expect(await result.text).toBe('one two')
    expect(await result.finishReason).toBe('length')
  })
})

describe('tools and structured output', () => {
  const weather = tool({
    inputSchema: jsonSchema<{ city: string }>({ type: 'object', properties: { city: { type: 'string' } } }),
    execute: ({ city }) => `sunny in ${city}`,
  })
  const call = [
    accepted,
    toolCalls({ index: 0, id: 'call_1', type: 'function', function: { name: 'weather', arguments: '' } }),
    toolCalls({ index: 0, function: { arguments: '{"city": "Bo' } }),
    toolCalls({ index: 0, function: { arguments: 'nn"}' } }),
    finish('tool_calls'),
    usage,
  ]

  test('a call is executed, and its result is sent', async () => {
    const { apar, requests } = fakeEdge(call, FORKED)
    const result = streamText({
      model: apar('demo'),
      prompt,
      tools: { weather },
      stopWhen: ({ steps }) => steps.length === 2,
    })
    expect(await result.text).toBe(FORKED_TEXT)
    const [first] = await result.steps
    expect(first).toMatchObject({ finishReason: 'tool-calls', toolCalls: [{ input: { city: 'Bonn' } }] })
    expect(requests[0]?.body.tools).toMatchObject([{ type: 'function', function: { name: 'weather' } }])
    expect(requests[1]?.body.messages).toMatchObject([
      { role: 'user' },
      { role: 'assistant', tool_calls: [{ id: 'call_1', function: { name: 'weather' } }] },
      { role: 'tool', tool_call_id: 'call_1', content: 'sunny in Bonn' },
    ])
  })

  test('an object is asked for with its schema', async () => {
    const body = {
      ...usage,
      choices: [{ index: 0, message: { role: 'assistant', content: '{"n": 3}' }, finish_reason: 'stop' }],
    }
    const { apar, requests } = fakeEdge(Response.json(body))
    const schema = jsonSchema<{ n: number }>({ type: 'object', properties: { n: { type: 'integer' } } })
    const result = await generateText({ model: apar('demo'), prompt, output: Output.object({ schema }) })
    expect(result.output).toEqual({ n: 3 })
    expect(result.warnings).toEqual([])
    expect(requests[0]?.body.response_format).toMatchObject({
      type: 'json_schema',
      json_schema: { schema: { properties: { n: { type: 'integer' } } } },
    })
  })
})
