import { generateText, type JSONSchema7, jsonSchema, Output, streamText } from 'ai'
import { Ajv2020 } from 'ajv/dist/2020.js'
import addFormats from 'ajv-formats'
import OpenAI from 'openai'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createApar } from '../../ai-sdk/index.ts'
import { Grammars } from '../../gpu-node/grammar/grammars.ts'
import { requires } from '../support/requires.ts'
import { type Stack, startStack } from './stack.ts'

const served = requires('the grammar engine (python3 with pip)', () => Grammars.available)
let stack: Stack
beforeAll(async () => {
  stack = await startStack()
}, 60_000)
afterAll(() => stack?.close())

const ajv = addFormats.default(new Ajv2020({ strict: false, allErrors: true }))
const messages = [{ role: 'user' as const, content: 'How do I use tar?' }]
const PERSON = {
  type: 'object',
  properties: {
    name: { type: 'string', maxLength: 12 },
    age: { type: 'integer', minimum: 0, maximum: 150 },
    tags: { type: 'array', items: { enum: ['a', 'b c', 7, null] }, maxItems: 3 },
  },
  required: ['name', 'age', 'tags'],
  additionalProperties: false,
}

/** Of any of the APIs. */
interface AnswerBody {
  error?: { code: string; param: string; message: string }
  choices: { text: string; message: { content: string }; finish_reason: string }[]
  status: string
  text: { format: object }
  output: { content: { text: string }[] }[]
  content: { text: string }[]
  stop_reason: string
}

async function post(path: string, body: object) {
  const response = await fetch(`${stack.url}${path}`, {
    method: 'POST',
    headers: { authorization: `Bearer ${stack.key}`, 'content-type': 'application/json' },
    body: JSON.stringify({ model: 'demo', ...body }),
  })
  return { status: response.status, body: (await response.json()) as AnswerBody }
}

async function chat(body: object) {
  const { status, body: answer } = await post('/v1/chat/completions', { messages, max_tokens: 400, ...body })
  expect(answer.error).toBeUndefined()
  expect(status).toBe(200)
  return answer.choices
}

const isPerson = ajv.compile(PERSON)
const schema = { type: 'json_schema', schema: PERSON }

describe.skipIf(!served)('an answer with a format', () => {
  test('of chat completions, also streamed', async () => {
    const response_format = {
      type: 'json_schema' as const,
      json_schema: { name: 'person', strict: true, schema: PERSON },
    }
    const choices = await chat({ response_format, n: 4, temperature: 1.5, seed: 1 })
    for (const { message, finish_reason } of choices) {
      expect(finish_reason).toBe('stop')
      expect(isPerson(JSON.parse(message.content)), message.content).toBe(true)
    }
    const client = new OpenAI({ baseURL: `${stack.url}/v1`, apiKey: stack.key })
    const stream = client.chat.completions.stream({
      ...{ model: 'demo', messages, max_tokens: 400, temperature: 1.5, seed: 1 },
      response_format,
    })
    expect((await stream.finalChatCompletion()).choices[0]?.message.content).toBe(choices[0]?.message.content)
  })

  test('of the AI SDK, growing and whole', async () => {
    const apar = createApar({ baseURL: `${stack.url}/v1`, apiKey: stack.key })
    // Long, so that it does not come at once.
    const tags = { ...PERSON.properties.tags, minItems: 40, maxItems: 40 }
    const schema = { ...PERSON, properties: { ...PERSON.properties, tags } }
    const isLong = ajv.compile(schema)
    const output = Output.object({ schema: jsonSchema<object>(schema as JSONSchema7) })
    const asked = { model: apar('demo'), messages, maxOutputTokens: 400, temperature: 1.5, seed: 1, output }
    const stream = streamText(asked)
    const partial: unknown[] = []
    for await (const object of stream.partialOutputStream) partial.push(object)
    expect(partial.length).toBeGreaterThan(1)
    expect(isLong(await stream.output)).toBe(true)
    expect((await generateText(asked)).output).toEqual(await stream.output)
  })

  test('is an object with json_object', async () => {
    const [choice] = await chat({
      ...{ response_format: { type: 'json_object' }, temperature: 0, max_tokens: 40 },
    })
    expect(choice?.message.content).toMatch(/^\{/)
    if (choice?.finish_reason === 'stop') expect(typeof JSON.parse(choice.message.content)).toBe('object')
  })

  test('that is cut off has finish_reason length', async () => {
    const [choice] = await chat({ guided_json: PERSON, max_tokens: 5, seed: 1 })
    expect(choice?.finish_reason).toBe('length')
    expect(() => JSON.parse(choice?.message.content ?? '')).toThrow()
  })

  test('of completions, with a pattern and choices', async () => {
    const of = async (fields: object) => {
      const { status, body } = await post('/v1/completions', { prompt: 'x', max_tokens: 60, ...fields })
      expect([status, body.choices?.[0]?.finish_reason], JSON.stringify(body)).toEqual([200, 'stop'])
      return body.choices[0]?.text ?? ''
    }
    expect(await of({ guided_regex: '[A-Z][a-z]{2,5}!' })).toMatch(/^[A-Z][a-z]{2,5}!$/)
    expect(['left', 'right']).toContain(await of({ structured_outputs: { choice: ['left', 'right'] } }))
    expect(await of({ guided_grammar: 'root ::= "(" root ")" | "x"' })).toMatch(/^\(*x\)*$/)
  })

  test('of responses and messages', async () => {
    const response = await post('/v1/responses', {
      input: 'x',
      max_output_tokens: 400,
      text: { format: { ...schema, name: 'p' } },
    })
    expect(response.body.status).toBe('completed')
    expect(response.body.text.format).toMatchObject(schema)
    expect(isPerson(JSON.parse(response.body.output[0]?.content[0]?.text ?? ''))).toBe(true)
    for (const fields of [{ output_config: { format: schema } }, { output_format: schema }]) {
      const { body } = await post('/v1/messages', { messages, max_tokens: 400, ...fields })
      expect(body.stop_reason).toBe('end_turn')
      expect(isPerson(JSON.parse(body.content[0]?.text ?? ''))).toBe(true)
    }
  })

  test.each<[string, object, string]>([
    ['/v1/chat/completions', { messages, guided_regex: 'a(' }, 'guided_regex'],
    ['/v1/chat/completions', { messages, stream: true, guided_regex: 'a(' }, 'guided_regex'],
    [
      '/v1/completions',
      { prompt: 'x', structured_outputs: { grammar: 'root ::= x' } },
      'structured_outputs.grammar',
    ],
    [
      '/v1/responses',
      { input: 'x', text: { format: { type: 'json_schema', schema: { oneOf: [{}, {}] } } } },
      'text.format',
    ],
    ['/v1/chat/completions', { messages, guided_json: { not: {} } }, 'guided_json.not'],
    ['/v1/chat/completions', { messages, guided_json: {}, ignore_eos: true }, 'ignore_eos'],
  ])('%s refuses %j with the field', async (path, fields, param) => {
    const { status, body } = await post(path, fields)
    expect(status).toBe(400)
    expect(body.error).toMatchObject({ code: 'invalid_request', param })
    expect(body.error?.message).toContain(param)
  })
})
