import { Ajv2020 } from 'ajv/dist/2020.js'
import addFormats from 'ajv-formats'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
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
const messages = [{ role: 'user', content: 'How do I use tar?' }]
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

async function post(path: string, body: object) {
  const response = await fetch(`${stack.url}${path}`, {
    method: 'POST',
    headers: { authorization: `Bearer ${stack.key}`, 'content-type': 'application/json' },
    body: JSON.stringify({ model: 'demo', ...body }),
  })
  return { status: response.status, body: await response.json() }
}

async function chat(body: object) {
  const { status, body: answer } = await post('/v1/chat/completions', { messages, max_tokens: 400, ...body })
  expect(answer.error).toBeUndefined()
  expect(status).toBe(200)
  return answer.choices
}

describe.skipIf(!served)('an answer with a format', () => {
  const format = { type: 'json_schema', json_schema: { name: 'person', strict: true, schema: PERSON } }

  test('of chat completions', async () => {
    const isPerson = ajv.compile(PERSON)
    for (const { message, finish_reason } of await chat({
      response_format: format,
      n: 4,
      temperature: 1.5,
    })) {
      expect(finish_reason).toBe('stop')
      expect(isPerson(JSON.parse(message.content)), message.content).toBe(true)
    }
  })
})
