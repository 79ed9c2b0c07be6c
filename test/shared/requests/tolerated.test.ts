// Requests as the SDKs and front ends of 2026 send them: what they always send, and what they send back.
import { describe, expect, it } from 'vitest'
import type { z } from 'zod'
import { MessagesRequest } from '../../../shared/anthropic.ts'
import { AparError } from '../../../shared/errors.ts'
import { ChatCompletionRequest, CompletionRequest } from '../../../shared/openai.ts'
import { parseBody } from '../../../shared/requests/body.ts'
import { ResponsesRequest } from '../../../shared/responses.ts'

const USER = { role: 'user', content: 'hi' }
/** The least that each API takes. */
const APIS = {
  chat: { schema: ChatCompletionRequest, base: { model: 'm', messages: [USER] } },
  completions: { schema: CompletionRequest, base: { model: 'm', prompt: 'hi' } },
  responses: { schema: ResponsesRequest, base: { model: 'm', input: 'hi' } },
  messages: { schema: MessagesRequest, base: { model: 'm', messages: [USER], max_tokens: 9 } },
} as const
type Api = keyof typeof APIS
const ALL: Api[] = ['chat', 'completions', 'responses', 'messages']

function read(api: Api, fields: object): unknown {
  const { schema, base } = APIS[api]
  return parseBody(schema as z.ZodType, JSON.stringify({ ...base, ...fields }))
}

function refusalOf(api: Api, fields: object): AparError {
  try {
    read(api, fields)
  } catch (error) {
    if (error instanceof AparError) return error
    throw error
  }
  throw new Error(`${api} took ${JSON.stringify(fields)}`)
}

function each(kinds: readonly (readonly [Api[], object])[]) {
  return kinds.flatMap(([apis, fields]) => apis.map((api) => [api, JSON.stringify(fields), fields] as const))
}

/** A conversation in chat, whose second message is an earlier answer. */
const answered = (answer: object) => ({
  messages: [USER, { role: 'assistant', content: 'ok', ...answer }, USER],
})
const said = (...parts: object[]) => ({ messages: [{ role: 'user', content: parts }] })
const used = (...blocks: object[]) => ({ messages: [USER, { role: 'assistant', content: blocks }, USER] })

describe('is taken', () => {
  it.each(
    each([
      // null means absent, at every depth.
      [ALL, { temperature: null, top_p: null, seed: null, stream: null, apar: null, guided_json: null }],
      [ALL, { apar: { max_branches: null, top_k: null } }],
      [['chat', 'completions'], { stop: null, logit_bias: null, n: null, max_tokens: null, logprobs: null }],
      [['chat', 'completions'], { stream_options: { include_usage: null } }],
      [['responses'], { text: { format: null, verbosity: null }, reasoning: null, include: null }],
      [['messages'], { system: null, stop_sequences: null, thinking: null, tools: null, top_k: null }],
      // Fields of an answer.
      [['chat'], answered({ tool_calls: null, function_call: null, audio: null, refusal: null })],
      [['chat'], answered({ tool_calls: [], annotations: [], reasoning_content: 'hm', reasoning: null })],
      [
        ['chat'],
        answered({
          content: null,
          tool_calls: [{ id: 'c', type: 'function', function: { name: 'f', arguments: '{}' } }],
        }),
      ],
      [['chat'], answered({ content: [], refusal: 'no' })],
      [['chat'], answered({ content: [{ type: 'refusal', refusal: 'no' }], name: 'bob' })],
      [
        ['chat'],
        {
          messages: [
            { ...USER, name: 'ann' },
            { role: 'tool', tool_call_id: 'c', content: '4' },
          ],
        },
      ],
      [['chat'], { messages: [{ role: 'function', name: 'f', content: '4' }] }],
      [['messages'], used({ type: 'text', text: 'ok', citations: null })],
      [
        ['messages'],
        used({ type: 'thinking', thinking: 'hm', signature: 's' }, { type: 'text', text: 'ok' }),
      ],
      [['messages'], used({ type: 'tool_use', id: 't', name: 'f', input: { a: null } })],
      [['messages'], used({ type: 'text', text: '{}', citations: null, parsed_output: {} })],
      [['messages'], used({ type: 'tool_use', id: 't', name: 'f', input: {}, toolset_name: 'files' })],
      [['messages'], { messages: [USER, { role: 'system', content: 'Be brief.' }, USER] }],
      [
        ['messages'],
        {
          messages: [
            {
              role: 'user',
              content: [
                {
                  type: 'tool_result',
                  tool_use_id: 't',
                  content: [{ type: 'text', text: '4' }],
                  is_error: false,
                },
              ],
            },
          ],
        },
      ],
      [['messages'], { messages: [USER, { role: 'assistant', content: 'The answer is' }] }],
      [['responses'], { input: [{ type: 'item_reference', id: 'msg_1' }, USER] }],
      [['responses'], { input: [{ id: 'msg_1' }, { type: null, id: 'msg_2' }, USER] }],
      [
        ['responses'],
        { input: [USER, { type: 'reasoning', id: 'rs_1', summary: [], encrypted_content: 'x' }] },
      ],
      [
        ['responses'],
        {
          input: [
            USER,
            {
              id: 'msg_1',
              type: 'message',
              role: 'assistant',
              status: 'completed',
              content: [{ type: 'output_text', text: 'ok', annotations: [], logprobs: [] }],
            },
          ],
        },
      ],
      [
        ['responses'],
        {
          input: [
            USER,
            {
              ...{ type: 'function_call', id: 'fc', call_id: 'c', name: 'f', arguments: '{}' },
              ...{ async: false, caller: { type: 'direct' }, namespace: null },
            },
            { type: 'function_call_output', call_id: 'c', output: '4', caller: { type: 'direct' } },
          ],
        },
      ],
      [
        ['responses'],
        {
          input: [
            USER,
            { type: 'function_call_output', call_id: 'c', output: [{ type: 'input_text', text: '4' }] },
          ],
        },
      ],
      // Neutral values.
      [['chat', 'responses', 'messages'], { tools: [] }],
      [['chat', 'responses'], { tool_choice: 'none', tools: [{ type: 'function', name: 'f' }] }],
      [['messages'], { tool_choice: { type: 'none' }, tools: [{ name: 'f', input_schema: {} }] }],
      [['chat', 'responses'], { parallel_tool_calls: true, tool_choice: 'auto' }],
      [
        ['chat'],
        { functions: [], function_call: 'auto', modalities: ['text'], response_format: { type: 'text' } },
      ],
      [['chat'], { logprobs: false, top_logprobs: 0 }],
      [['chat', 'completions'], { stream: false, stream_options: { include_usage: false } }],
      [['chat', 'completions'], { stream: true, stream_options: { include_obfuscation: true } }],
      [['chat'], { verbosity: 'medium', reasoning_effort: 'low' }],
      [
        ['responses'],
        { reasoning: {}, text: { verbosity: 'medium' }, include: ['reasoning.encrypted_content'] },
      ],
      [['responses'], { reasoning: { effort: 'high', summary: 'auto' }, store: true, top_logprobs: 0 }],
      [['messages'], { thinking: { type: 'enabled', budget_tokens: 1024, display: 'omitted' } }],
      [['messages'], { thinking: { type: 'adaptive' }, output_config: { effort: 'low' } }],
      [['messages'], { thinking: { type: 'disabled' }, context_management: {}, mcp_servers: [] }],
      [['messages'], { context_management: { edits: [{ type: 'clear_thinking_20251015', keep: 'all' }] } }],
      [ALL, { top_p: 0 }],
      [ALL, { top_p: 1e-300 }],
      [ALL, { top_k: -1, min_p: 0, repetition_penalty: 1.0 }],
      [
        ALL,
        { typical_p: 1, mirostat: 0, length_penalty: 1, use_beam_search: false, skip_special_tokens: true },
      ],
      [['completions'], { best_of: 1, echo: false, suffix: '' }],
      [['chat', 'completions'], { max_tokens: -1 }],
      // Seeds of 64 bits.
      [ALL, { seed: -1 }],
      [ALL, { seed: 2 ** 32 }],
      [ALL, { seed: 2 ** 53 }],
      [ALL, { seed: -(2 ** 63) }],
      // Who asks, and what is kept.
      [
        ['chat', 'completions', 'responses'],
        { user: 'u', service_tier: 'flex', safety_identifier: 's', store: false },
      ],
      [
        ['chat', 'completions', 'responses'],
        { metadata: { a: 'b' }, prompt_cache_key: 'k', prompt_cache_retention: '24h' },
      ],
      [
        ['messages'],
        { metadata: { user_id: 'u' }, service_tier: 'auto', cache_control: { type: 'ephemeral' } },
      ],
      // Marks for a cache, and what agents say about themselves.
      [['chat', 'responses'], { prompt_cache_options: { mode: 'explicit', ttl: '30m' } }],
      [['chat'], said({ type: 'text', text: 'hi', prompt_cache_breakpoint: { mode: 'explicit' } })],
      [
        ['responses'],
        {
          input: [
            {
              role: 'user',
              content: [{ type: 'input_text', text: 'hi', prompt_cache_breakpoint: { mode: 'explicit' } }],
            },
          ],
        },
      ],
      [['responses'], { client_metadata: { 'x-codex-installation-id': 'i' } }],
      [['messages'], { diagnostics: { previous_message_id: 'msg_1' } }],
      // The spellings of other servers.
      [['chat'], said({ type: 'input_text', text: 'hi' }, { type: 'output_text', text: 'ho' })],
      [ALL, { xtc_threshold: 0.1, mirostat_tau: 5, dynatemp_exponent: 1, top_n_sigma: -1, typ_p: 1 }],
      [['chat', 'completions'], { usage: { include: true }, provider: {}, models: ['m'], transforms: [] }],
      [['chat', 'responses', 'messages'], { add_special_tokens: false }],
      [['chat'], { echo: false }],
      [['chat'], { reasoning: { effort: 'low', exclude: true }, thinking: { type: 'disabled' } }],
      [['chat'], { enable_thinking: false, thinking_budget: 0 }],
      [['chat', 'completions', 'responses'], { frequency_penalty: 0, presence_penalty: 0.5 }],
      [ALL, { top_k: 40, min_p: 0.05, repetition_penalty: 1.1, seed: 7 }],
    ]),
  )('%s: %s', (api, _, fields) => {
    expect(read(api, fields)).toMatchObject({ model: 'm' })
  })
})

describe('is refused, with its path', () => {
  const image = { type: 'image_url', image_url: { url: 'data:,' } }
  it.each([
    ['chat', 'nonsense', { nonsense: 1 }],
    ['chat', 'tools.0.function', { tools: [{ type: 'function', name: 'f' }] }],
    ['chat', 'tools.0.function.name', { tools: [{ type: 'function', function: { name: 'a b' } }] }],
    ['chat', 'tool_choice', { tool_choice: 'any' }],
    ['responses', 'tools.0.type', { tools: [{ type: 'file_search', vector_store_ids: [] }] }],
    ['messages', 'tools.0.input_schema', { tools: [{ name: 'f' }] }],
    ['chat', 'messages.0.content.0.type', { messages: [{ role: 'user', content: [image] }] }],
    ['chat', 'messages.0.content.0.text', { messages: [{ role: 'user', content: [{ type: 'text' }] }] }],
    ['chat', 'messages.0.content', { messages: [{ role: 'user', content: null }] }],
    [
      'chat',
      'messages.1.tool_calls.0.function.name',
      { messages: [USER, { role: 'assistant', tool_calls: [{ function: { arguments: '{}' } }] }] },
    ],
    ['chat', 'response_format.type', { response_format: { type: 'xml' } }],
    ['chat', 'top_logprobs', { top_logprobs: 3 }],
    ['completions', 'max_tokens', { max_tokens: -2 }],
    ['chat', 'stop', { stop: 5 }],
    ['chat', 'moderation', { moderation: { model: 'm' } }],
    ['responses', 'input.0.role', { input: [{ role: 'tool', content: 'x' }] }],
    ['responses', 'input.0', { input: [{ id: 5 }] }],
    ['chat', 'seed', { seed: 0.5 }],
    ['chat', 'seed', { seed: 1e30 }],
    ['chat', 'top_k', { top_k: -2 }],
    ['chat', 'max_tokens', { max_tokens: 0 }],
    ['chat', 'repetition_penalty', { repetition_penalty: 5e-324 }],
    ['chat', 'apar.repetition_penalty', { apar: { repetition_penalty: 1e-40 } }],
    ['completions', 'add_special_tokens', { add_special_tokens: false }],
    ['completions', 'suffix', { suffix: 'x' }],
    ['completions', 'guided_json', { guided_json: 'no JSON' }],
    ['completions', 'skip_special_tokens', { skip_special_tokens: false }],
    [
      'responses',
      'input.0.content.0.type',
      { input: [{ role: 'user', content: [{ type: 'input_image' }] }] },
    ],
    ['responses', 'input', { input: [{ type: 'reasoning', summary: [] }] }],
    ['responses', 'include.0', { include: ['message.output_text.logprobs'] }],
    ['responses', 'previous_response_id', { previous_response_id: 'chatcmpl-1' }],
    ['responses', 'background', { background: true, store: false }],
    ['messages', 'thinking.type', { thinking: { type: 'always' } }],
    ['messages', 'output_config.format.schema', { output_config: { format: { type: 'json_schema' } } }],
    ['messages', 'messages.0.content.0.type', { messages: [{ role: 'user', content: [{ type: 'image' }] }] }],
    ['messages', 'max_tokens', { max_tokens: null }],
  ] as const)('%s: %s of %j', (api, param, fields) => {
    expect(refusalOf(api, fields)).toMatchObject({ code: 'invalid_request', param })
  })

  it('in words of HTTP where a field is missing', () => {
    expect(refusalOf('chat', { messages: undefined }).message).toBe('messages: is required')
  })
})

it('gives each seed of 64 bits one of 32, the small ones their own', () => {
  const seedOf = (seed: number) => (read('chat', { seed }) as { seed: number }).seed
  expect([0, 1, 2 ** 32 - 1].map(seedOf)).toEqual([0, 1, 2 ** 32 - 1])
  const large = [2 ** 32, 2 ** 53, 2 ** 62, -2, -(2 ** 63)].map(seedOf)
  expect(large.every((seed) => Number.isInteger(seed) && seed >= 0 && seed < 2 ** 32)).toBe(true)
  expect(new Set(large).size).toBe(large.length)
})

it('keeps null in what a tool was called with, and in variables of the template', () => {
  const { messages } = read(
    'messages',
    used({ type: 'tool_use', id: 't', name: 'f', input: { a: null } }),
  ) as {
    messages: { content: { input: unknown }[] }[]
  }
  expect(messages[1]?.content[0]?.input).toEqual({ a: null })
})
