// Members of a format that are decoded in parallel, over each API and when their node is lost.
import { Ajv2020 } from 'ajv/dist/2020.js'
import OpenAI from 'openai'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import WebSocket from 'ws'
import { type BranchStream, openStream } from '../../client/index.ts'
import { Grammars } from '../../gpu-node/grammar/grammars.ts'
import { requires } from '../support/requires.ts'
import { type LocalFleet, startFleet } from './fleet.ts'
import { type Stack, startStack } from './stack.ts'

const served = requires('the grammar engine (python3 with pip)', () => Grammars.available)
const messages = [{ role: 'user' as const, content: 'How do I use tar?' }]

/** Long enough that it takes a while. */
const LIST = { type: 'array', items: { type: 'integer', minimum: 0, maximum: 9 }, minItems: 60, maxItems: 90 }
const RECORD = {
  type: 'object',
  properties: {
    title: { type: 'string', maxLength: 20 },
    size: {
      type: 'object',
      properties: { width: { type: 'integer', maximum: 99 }, height: { type: 'integer', maximum: 99 } },
      required: ['width', 'height'],
      additionalProperties: false,
    },
    one: LIST,
    other: LIST,
  },
  required: ['title', 'size', 'one', 'other'],
  additionalProperties: false,
}
const BRANCHES = 7
const isRecord = new Ajv2020({ strict: false }).compile(RECORD)
const format = { type: 'json_schema' as const, schema: RECORD }
const sampling = { temperature: 1.2, seed: 4 }
const apar = { parallel_format: true }

function open(server: Pick<Stack | LocalFleet, 'url' | 'key'>, fields: object = {}): BranchStream {
  const request = { model: 'demo', messages, ...sampling, ...apar, output_format: format, ...fields }
  return openStream({ baseUrl: server.url, apiKey: server.key, request, WebSocket })
}

async function whole(stream: BranchStream): Promise<string> {
  for await (const event of stream)
    if (event.type === 'done')
      expect([event.reason, event.usage.branches]).toEqual(['stop', expect.any(Array)])
  expect(isRecord(JSON.parse(stream.tree.text())), stream.tree.text()).toBe(true)
  return stream.tree.text()
}

describe.skipIf(!served)('members in parallel', () => {
  let stack: Stack
  let text: string
  beforeAll(async () => {
    stack = await startStack()
    const stream = open(stack)
    text = await whole(stream)
    expect(stream.tree.branches()).toHaveLength(BRANCHES)
  }, 60_000)
  afterAll(() => stack?.close())

  async function post(path: string, body: object) {
    const response = await fetch(`${stack.url}${path}`, {
      method: 'POST',
      headers: { authorization: `Bearer ${stack.key}`, 'content-type': 'application/json' },
      body: JSON.stringify({ model: 'demo', ...sampling, apar, ...body }),
    })
    expect(response.status).toBe(200)
    return await response.text()
  }

  const response_format = { type: 'json_schema' as const, json_schema: { name: 'r', schema: RECORD } }

  test('are one text in document order in chat completions, streamed or not, with the usage of all', async () => {
    const { choices, usage } = JSON.parse(await post('/v1/chat/completions', { messages, response_format }))
    expect([choices[0].message.content, choices[0].finish_reason]).toEqual([text, 'stop'])
    expect(usage.completion_tokens).toBeGreaterThan(120)
    const client = new OpenAI({ baseURL: `${stack.url}/v1`, apiKey: stack.key })
    const stream = client.chat.completions.stream({
      ...{ model: 'demo', messages, ...sampling, response_format },
      ...({ apar } as object),
    })
    let parts = 0
    stream.on('content', () => parts++)
    expect((await stream.finalChatCompletion()).choices[0]?.message.content).toBe(text)
    expect(parts).toBeGreaterThan(3)
  })

  test('are branches for those who want them', async () => {
    const lines = (
      await post('/v1/chat/completions', {
        ...{ messages, response_format, stream: true },
        apar: { ...apar, branch_deltas: true },
      })
    ).split('\n')
    const chunks = lines.filter((line) => line.startsWith('data: {')).map((line) => JSON.parse(line.slice(6)))
    const branches = new Set(chunks.map((chunk) => chunk.apar?.branch).filter((id) => id !== undefined))
    expect([...branches].sort()).toEqual([0, 1, 2, 3, 4, 5, 6])
    expect(chunks.filter((chunk) => chunk.apar?.event === 'fork')).toHaveLength(BRANCHES - 1)
  })

  test('are the same in completions, responses and messages', async () => {
    const completion = JSON.parse(
      await post('/v1/completions', { prompt: 'x', guided_json: RECORD, max_tokens: 600 }),
    )
    expect(isRecord(JSON.parse(completion.choices[0].text))).toBe(true)
    const response = JSON.parse(
      await post('/v1/responses', {
        ...{ input: messages[0]?.content, text: { format: { ...format, name: 'r' } } },
        seed: undefined,
      }),
    )
    expect(response.status).toBe('completed')
    expect(isRecord(JSON.parse(response.output[0].content[0].text))).toBe(true)
    const message = JSON.parse(
      await post('/v1/messages', {
        ...{ messages, max_tokens: 600, output_config: { format }, temperature: 1 },
        seed: undefined,
      }),
    )
    expect([message.stop_reason, isRecord(JSON.parse(message.content[0].text))]).toEqual(['end_turn', true])
  })

  test('that a limit cuts end with the reason length', async () => {
    const { choices } = JSON.parse(
      await post('/v1/chat/completions', { messages, response_format, max_tokens: 80 }),
    )
    expect(choices[0].finish_reason).toBe('length')
    expect(() => JSON.parse(choices[0].message.content)).toThrow()
  })

  test('can be cancelled', async () => {
    const list = { ...LIST, minItems: 400, maxItems: 400 }
    const schema = { ...RECORD, properties: { ...RECORD.properties, one: list, other: list } }
    const stream = open(stack, { output_format: { ...format, schema } })
    let reason: string | undefined
    for await (const event of stream) {
      if (event.type === 'fork' && event.branch === 1) stream.cancel()
      if (event.type === 'done') reason = event.reason
    }
    expect(reason).toBe('abort')
  })
})

describe.skipIf(!served)('when a node is lost', () => {
  let fleet: LocalFleet
  afterEach(() => fleet?.close())

  test('another one continues the members', { timeout: 120_000 }, async () => {
    fleet = await startFleet({ nodes: 2 })
    const text = await whole(open(fleet))
    let hit = 0
    for (let attempt = 0; hit === 0 && attempt < 20; attempt++) {
      if (attempt > 0) await fleet.addNode()
      let killed = false
      const stream = open(fleet)
      for await (const event of stream) {
        if (killed || event.type !== 'delta' || stream.tree.branches().length < BRANCHES) continue
        killed = true
        hit = (await fleet.killBusiest()).running
      }
      expect(stream.tree.text()).toBe(text)
    }
    expect(hit).toBeGreaterThan(0)
  })
})
