import { createOpenAICompatible } from '@ai-sdk/openai-compatible'
import Anthropic from '@anthropic-ai/sdk'
import { generateText, jsonSchema, stepCountIs, streamText, tool } from 'ai'
import { Ajv2020 } from 'ajv/dist/2020.js'
import OpenAI from 'openai'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { Grammars } from '../../gpu-node/grammar/grammars.ts'
import { requires } from '../support/requires.ts'
import type { TinyFolder } from '../support/tiny-checkpoint.ts'
import { CALL_TOKENS, TOOL_TEMPLATES, toolCheckpoint } from '../support/tool-checkpoint.ts'
import { type Stack, startStack } from './stack.ts'

const served = requires('the grammar engine (python3 with pip)', () => Grammars.available)
const PARAMETERS = {
  type: 'object' as const,
  properties: { city: { type: 'string', maxLength: 6 }, days: { type: 'integer', minimum: 0, maximum: 9 } },
  required: ['city', 'days'],
  additionalProperties: false,
}
const isGood = new Ajv2020().compile(PARAMETERS)
const WEATHER = {
  type: 'function' as const,
  function: { name: 'get_weather', description: 'The weather', parameters: PARAMETERS },
}
const TIME = {
  type: 'function' as const,
  function: { name: 'get_time', parameters: { type: 'object', properties: {} } },
}
const tools = [WEATHER, TIME]
const question = { role: 'user' as const, content: 'How is the weather?' }

describe.skipIf(!served).each(['hermes', 'mistral'] as const)(
  'a model that calls tools as %s does',
  (name) => {
    let folder: TinyFolder
    let stack: Stack
    let openai: OpenAI
    let anthropic: Anthropic
    beforeAll(async () => {
      folder = toolCheckpoint(TOOL_TEMPLATES[name])
      stack = await startStack({ modelDir: folder.path, modelName: 'tiny' })
      openai = new OpenAI({ baseURL: `${stack.url}/v1`, apiKey: stack.key, maxRetries: 0 })
      anthropic = new Anthropic({ baseURL: stack.url, apiKey: stack.key, maxRetries: 0 })
    }, 60_000)
    afterAll(async () => {
      await stack?.close()
      folder?.remove()
    })

    const marker = name === 'hermes' ? '<tool_call>' : '[TOOL_CALLS]'
    /** Makes the model begin a call wherever it may. */
    const calls = { logit_bias: { [CALL_TOKENS[marker]]: 100 } }
    const base = { model: 'tiny', messages: [question], tools, max_tokens: 400, temperature: 1, seed: 3 }

    test('calls one where it wants to, also streamed', async () => {
      const body = { ...base, ...calls, parallel_tool_calls: false }
      const { choices } = await openai.chat.completions.create(body)
      expect(choices[0]).toMatchObject({ finish_reason: 'tool_calls', message: { content: null } })
      const [call, ...others] = choices[0]?.message.tool_calls ?? []
      expect(others).toEqual([])
      expect(call).toMatchObject({ id: expect.stringMatching(/^call_[0-9a-f]{24}$/), type: 'function' })
      const stream = openai.chat.completions.stream({ ...body, stream_options: { include_usage: true } })
      const final = await stream.finalChatCompletion()
      const [streamed] = final.choices[0]?.message.tool_calls ?? []
      expect(final.choices[0]).toMatchObject({ finish_reason: 'tool_calls', message: { content: null } })
      expect(streamed?.id).not.toBe(call?.id)
      expect(streamed).toMatchObject({ function: { ...(call?.type === 'function' ? call.function : {}) } })
    })

    test('answers in words where it wants to, without markers', async () => {
      const { choices } = await openai.chat.completions.create({ ...base, max_tokens: 60 })
      expect(choices[0]?.message.tool_calls).toBeUndefined()
      expect(choices[0]?.message.content?.length).toBeGreaterThan(5)
    })

    test('calls several, each with good arguments, and takes their results', async () => {
      const { choices } = await openai.chat.completions.create({
        ...base,
        tool_choice: 'required',
        ...calls,
        seed: 5,
      })
      const message = choices[0]?.message
      const called = message?.tool_calls ?? []
      expect(new Set(called.map(({ id }) => id)).size).toBe(called.length)
      for (const call of choices[0]?.finish_reason === 'tool_calls' ? called : called.slice(0, -1)) {
        if (call.type !== 'function') throw new Error('no function')
        const args: unknown = JSON.parse(call.function.arguments)
        expect(call.function.name === 'get_time' ? JSON.stringify(args) === '{}' : isGood(args)).toBe(true)
      }
      if (!message) throw new Error('no message')
      const results = called.map(({ id }) => ({ role: 'tool' as const, tool_call_id: id, content: 'sunny' }))
      const messages = [question, message, ...results]
      const answer = await openai.chat.completions.create({
        ...base,
        messages,
        max_tokens: 5,
        tool_choice: 'auto',
      })
      expect(answer.choices[0]?.finish_reason).toBe('length')
      const more = answer.usage?.prompt_tokens ?? 0
      const { usage } = await openai.chat.completions.create({ ...base, max_tokens: 1 })
      expect(more).toBeGreaterThan((usage?.prompt_tokens ?? 0) + called.length * 'tool: sunny'.length)
    })

    test('calls the one that is named, or none', async () => {
      const named = await openai.chat.completions.create({
        ...base,
        tool_choice: { type: 'function', function: { name: 'get_time' } },
        parallel_tool_calls: false,
      })
      expect(named.choices[0]?.message.tool_calls).toMatchObject([
        { function: { name: 'get_time', arguments: '{}' } },
      ])
      const none = await openai.chat.completions.create({
        ...base,
        ...calls,
        tool_choice: 'none',
        max_tokens: 3,
      })
      expect(none.choices[0]?.message.tool_calls).toBeUndefined()
    })

    test('ends at length within a call', async () => {
      const { choices } = await openai.chat.completions.create({
        ...base,
        tool_choice: 'required',
        max_tokens: 50,
      })
      expect(choices[0]).toMatchObject({ finish_reason: 'length', message: { content: null } })
      const cut = await openai.chat.completions.create({ ...base, tool_choice: 'required', max_tokens: 3 })
      expect(cut.choices[0]).toMatchObject({ finish_reason: 'length', message: { content: '' } })
    })

    test('calls them through the API of messages', async () => {
      const body = {
        model: 'tiny',
        max_tokens: 400,
        messages: [question],
        tools: [{ name: 'get_weather', description: 'x', input_schema: PARAMETERS }],
        tool_choice: { type: 'any' as const, disable_parallel_tool_use: true },
      }
      const message = await anthropic.messages.stream(body).finalMessage()
      expect(message.stop_reason).toBe('tool_use')
      const [use] = message.content
      if (use?.type !== 'tool_use') throw new Error('no tool_use')
      expect(use.id).toMatch(/^toolu_/)
      expect(isGood(use.input)).toBe(true)
      const whole = await anthropic.messages.create(body)
      expect(whole.content).toMatchObject([{ type: 'tool_use', name: 'get_weather' }])
      const messages = [
        question,
        { role: 'assistant' as const, content: message.content },
        {
          role: 'user' as const,
          content: [{ type: 'tool_result' as const, tool_use_id: use.id, content: 'sunny' }],
        },
      ]
      const answer = await anthropic.messages.create({
        ...body,
        messages,
        tool_choice: { type: 'auto' },
        max_tokens: 3,
      })
      expect(answer.stop_reason).toBe('max_tokens')
      const counted = await anthropic.messages.countTokens({ model: 'tiny', messages, tools: body.tools })
      expect(counted.input_tokens).toBe(
        answer.usage.input_tokens + (answer.usage.cache_read_input_tokens ?? 0),
      )
    })

    test('calls them through the API of responses', async () => {
      const body = {
        model: 'tiny',
        max_output_tokens: 400,
        input: [question],
        tools: [{ type: 'function' as const, name: 'get_weather', parameters: PARAMETERS, strict: true }],
        tool_choice: 'required' as const,
        parallel_tool_calls: false,
      }
      const stream = openai.responses.stream(body)
      const response = await stream.finalResponse()
      expect(response).toMatchObject({
        status: 'completed',
        tool_choice: 'required',
        parallel_tool_calls: false,
      })
      const [item, ...others] = response.output
      expect(others).toEqual([])
      if (item?.type !== 'function_call') throw new Error('no function_call')
      expect(isGood(JSON.parse(item.arguments))).toBe(true)
      expect(item.call_id).toMatch(/^call_/)
      const input = [
        question,
        item,
        { type: 'function_call_output' as const, call_id: item.call_id, output: 'sunny' },
      ]
      const answer = await openai.responses.create({
        ...body,
        input,
        tool_choice: 'auto',
        max_output_tokens: 3,
      })
      expect(answer.status).toBe('incomplete')
    })

    test('runs a loop of the AI SDK', async () => {
      const provider = createOpenAICompatible({ name: 'apar', baseURL: `${stack.url}/v1`, apiKey: stack.key })
      const seen: unknown[] = []
      const options = {
        model: provider('tiny'),
        prompt: 'How is the weather?',
        maxOutputTokens: 300,
        maxRetries: 0,
        tools: {
          get_weather: tool({
            inputSchema: jsonSchema<{ city: string }>(PARAMETERS),
            execute: async (input) => {
              seen.push(input)
              return 'sunny'
            },
          }),
        },
        prepareStep: ({ stepNumber }: { stepNumber: number }) => {
          return { toolChoice: stepNumber < 2 ? ('required' as const) : ('none' as const) }
        },
        stopWhen: stepCountIs(3),
        providerOptions: { apar: { parallel_tool_calls: false } },
      }
      const { steps } = await generateText(options)
      expect(steps.map(({ toolCalls }) => toolCalls.length)).toEqual([1, 1, 0])
      const streamed = streamText(options)
      expect((await streamed.steps).map(({ toolResults }) => toolResults.length)).toEqual([1, 1, 0])
      expect(seen).toHaveLength(4)
      for (const input of seen) expect(isGood(input)).toBe(true)
    })

    test.each<[string, object, string]>([
      ['tool_choice', { tool_choice: { type: 'function', function: { name: 'other' } } }, 'names none'],
      ['tool_choice', { tools: [], tool_choice: 'required' }, 'needs tools'],
      [
        'tools.0.function.parameters.not',
        { tools: [{ ...WEATHER, function: { name: 'f', strict: true, parameters: { not: {} } } }] },
        'not',
      ],
      ['tools.0.type', { tools: [{ type: 'custom', custom: { name: 'f' } }] }, 'only functions'],
      ['tools', { tools: [WEATHER, WEATHER] }, 'twice'],
    ])('refuses %s', async (param, fields, message) => {
      const refused = openai.chat.completions.create({ ...base, ...fields } as never)
      await expect(refused).rejects.toMatchObject({
        status: 400,
        param,
        message: expect.stringContaining(message),
      })
    })
  },
)
