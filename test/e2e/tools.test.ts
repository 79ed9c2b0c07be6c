import Anthropic from '@anthropic-ai/sdk'
import { generateText, jsonSchema, stepCountIs, streamText, tool } from 'ai'
import { Ajv2020 } from 'ajv/dist/2020.js'
import OpenAI from 'openai'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createApar } from '../../ai-sdk/index.ts'
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
/** As coding agents describe theirs, with keywords that only some servers know. */
const AGENT_TOOLS = [
  {
    name: 'Bash',
    parameters: {
      $schema: 'http://json-schema.org/draft-07/schema#',
      type: 'object' as const,
      properties: {
        command: { type: 'string', description: 'The command' },
        timeout: { type: 'number', exclusiveMinimum: 0, maximum: 600_000, default: null },
        run_in_background: { type: 'boolean' },
      },
      required: ['command'],
      additionalProperties: false,
    },
  },
  {
    name: 'mcp__files__edit_file',
    parameters: {
      type: 'object' as const,
      properties: {
        path: { type: 'string', minLength: 1, format: 'uri' },
        edits: {
          type: 'array',
          minItems: 1,
          uniqueItems: true,
          items: { allOf: [{ $ref: '#/definitions/edit' }, { not: {} }] },
        },
        more: { type: ['string', 'null'], anyOf: [{ type: 'string' }, { type: 'null' }] },
      },
      required: ['path'],
      definitions: {
        edit: { type: 'object', properties: { to: { type: 'string' } }, additionalProperties: true },
      },
    },
  },
]
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

    test('calls one of the functions of the older fields, also streamed', async () => {
      const { tools: _, ...asked } = base
      const functions = [WEATHER.function, TIME.function]
      const body = { ...asked, functions, function_call: { name: 'get_weather' } }
      const { choices } = await openai.chat.completions.create(body)
      const message = choices[0]?.message
      expect(choices[0]).toMatchObject({ finish_reason: 'function_call', message: { content: null } })
      expect(message).not.toHaveProperty('tool_calls')
      expect(message?.function_call?.name).toBe('get_weather')
      expect(isGood(JSON.parse(message?.function_call?.arguments ?? ''))).toBe(true)
      let [name, args, finish] = ['', '', '']
      for await (const { choices } of await openai.chat.completions.create({ ...body, stream: true })) {
        name += choices[0]?.delta.function_call?.name ?? ''
        args += choices[0]?.delta.function_call?.arguments ?? ''
        finish = choices[0]?.finish_reason ?? finish
      }
      expect([name, args, finish]).toEqual([
        'get_weather',
        message?.function_call?.arguments,
        'function_call',
      ])
      if (!message) throw new Error('no message')
      const result = { role: 'function' as const, name: 'get_weather', content: 'sunny' }
      const messages = [question, message, result]
      const then = await openai.chat.completions.create({
        ...{ ...body, messages, max_tokens: 5, function_call: 'none' as const },
      })
      expect(then.choices[0]?.finish_reason).toBe('length')
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
      const provider = createApar({ baseURL: `${stack.url}/v1`, apiKey: stack.key })
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

    test('answers Claude Code', async () => {
      const body = {
        model: 'tiny',
        max_tokens: 300,
        system: [
          { type: 'text' as const, text: 'You are a CLI.', cache_control: { type: 'ephemeral' as const } },
        ],
        messages: [
          {
            role: 'user' as const,
            content: [
              { type: 'text' as const, text: '<system-reminder>x</system-reminder>' },
              { type: 'text' as const, text: 'fix it', cache_control: { type: 'ephemeral' as const } },
            ],
          },
          {
            role: 'assistant' as const,
            content: [
              { type: 'text' as const, text: 'I look.' },
              { type: 'tool_use' as const, id: 'toolu_01', name: 'Bash', input: { command: 'ls' } },
            ],
          },
          {
            role: 'user' as const,
            content: [
              { type: 'tool_result' as const, tool_use_id: 'toolu_01', content: 'a.ts', is_error: false },
              { type: 'text' as const, text: 'go on' },
            ],
          },
        ],
        tools: AGENT_TOOLS.map(({ name, parameters }) => ({
          name,
          description: 'x',
          input_schema: parameters,
        })),
        tool_choice: { type: 'any' as const },
        metadata: { user_id: 'user_1' },
        thinking: { type: 'adaptive' as const },
        output_config: { effort: 'high' as const },
        context_management: { edits: [{ type: 'clear_thinking_20251015' as const, keep: 'all' as const }] },
      }
      const message = await anthropic.beta.messages
        .stream({ ...body, betas: ['context-management-2025-06-27'] })
        .finalMessage()
      const uses = message.content.flatMap((block) => (block.type === 'tool_use' ? [block] : []))
      expect(uses.length).toBeGreaterThan(0)
      for (const { name } of uses) expect(AGENT_TOOLS.map((each) => each.name)).toContain(name)
      expect(
        (await anthropic.beta.messages.countTokens({ ...body, max_tokens: undefined } as never)).input_tokens,
      ).toBeGreaterThan(500)
    })

    test('answers Codex', async () => {
      const text = (content: string) => [{ type: 'input_text' as const, text: content }]
      const stream = await openai.responses.create({
        model: 'tiny',
        instructions: 'You are a coding agent.',
        input: [
          { type: 'message', role: 'developer', content: text('<permissions>') },
          { type: 'message', role: 'user', content: text('fix it') },
          { type: 'reasoning', id: 'rs_1', summary: [], encrypted_content: 'x' },
          { type: 'function_call', name: 'Bash', arguments: '{"command":"ls"}', call_id: 'call_1' },
          { type: 'function_call_output', call_id: 'call_1', output: 'a.ts' },
        ],
        tools: [
          ...AGENT_TOOLS.map((each) => ({ type: 'function' as const, ...each, strict: false })),
          { type: 'web_search', external_web_access: false } as never,
        ],
        tool_choice: 'required',
        parallel_tool_calls: true,
        reasoning: { effort: 'medium', summary: 'auto' },
        store: false,
        stream: true,
        include: ['reasoning.encrypted_content'],
        prompt_cache_key: 'x',
        text: { verbosity: 'medium' },
        max_output_tokens: 300,
      })
      const types: string[] = []
      let done = 0
      for await (const event of stream) {
        types.push(event.type)
        if (event.type === 'response.output_item.done' && event.item.type === 'function_call') done++
      }
      expect(types[2]).toBe('response.output_item.added')
      expect(types).toContain('response.function_call_arguments.delta')
      expect(done).toBeGreaterThan(0)
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
