import Anthropic from '@anthropic-ai/sdk'
import { EventSourceParserStream } from 'eventsource-parser/stream'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { Grammars } from '../../gpu-node/grammar/grammars.ts'
import { SHELL_HEADERS, shellRequest, TERMINAL_HEADERS, terminalRequest } from '../support/agent-requests.ts'
import { requires } from '../support/requires.ts'
import { scriptedCheckpoint } from '../support/scripted-checkpoint.ts'
import type { TinyFolder } from '../support/tiny-checkpoint.ts'
import { type Stack, startStack } from './stack.ts'

const served = requires('the grammar engine (python3 with pip)', () => Grammars.available)

const TEMPLATE =
  '{{ bos_token }}{% if tools %}{{ tools | tojson }}{# calls: <tool_call> #}{% endif %}{% for m in messages %}{% if m.reasoning_content %}{{ m.reasoning_content }}{% endif %}{{ m.content }}{% endfor %}'
const call = (name: string, args: object) =>
  `<tool_call>\n{"name": "${name}", "arguments": ${JSON.stringify(args).replaceAll(':', ': ').replaceAll(',', ', ')}}\n</tool_call>`
const THOUGHT = 'The user wants a list of files.'
const SAID = 'Let me look.'
const DONE = 'There is one file: a.ts'
const ANSWERS = {
  '?': ['<think>', `\n${THOUGHT}\n`, '</think>', `\n\n${SAID}\n${call('Bash', { command: 'ls' })}`],
  $: [`<think>\nA shell it is.\n</thin`, 'k>\n\n', call('shell', { command: ['ls', '-a'] })],
  // The output of the command ends with a line break.
  '\n': DONE,
}

describe.skipIf(!served)('requests of coding agents', () => {
  let folder: TinyFolder
  let stack: Stack
  beforeAll(async () => {
    const markers = { '<think>': false, '</think>': false }
    folder = scriptedCheckpoint({ template: TEMPLATE, answers: ANSWERS, markers })
    stack = await startStack({ modelDir: folder.path, modelName: 'scripted' })
  }, 60_000)
  afterAll(async () => {
    await stack?.close()
    folder?.remove()
  })

  async function events(path: string, headers: Record<string, string>, body: object) {
    const response = await fetch(`${stack.url}${path}`, {
      method: 'POST',
      headers: { ...headers, 'content-type': 'application/json' },
      body: JSON.stringify(body),
    })
    expect(response.status, response.ok ? '' : await response.clone().text()).toBe(200)
    const parsed = response.body
      ?.pipeThrough(new TextDecoderStream())
      .pipeThrough(new EventSourceParserStream())
    const all: { type: string; [field: string]: unknown }[] = []
    for await (const { event, data } of parsed ?? []) {
      all.push(JSON.parse(data))
      expect(all.at(-1)?.type).toBe(event)
    }
    return all
  }

  test('as with Messages run their loop', async () => {
    const headers = { ...TERMINAL_HEADERS, authorization: `Bearer ${stack.key}` }
    const ask = async (...turns: object[]) => {
      // Its stream is read as the agent's SDK reads it.
      const client = new Anthropic({ baseURL: stack.url, authToken: stack.key, apiKey: null, maxRetries: 0 })
      const body = { ...terminalRequest('Which files are there?', turns), max_tokens: 2000 }
      const stream = client.beta.messages.stream(body as never, { headers: TERMINAL_HEADERS })
      return await stream.finalMessage()
    }
    const first = await ask()
    expect(first).toMatchObject({
      stop_reason: 'tool_use',
      content: [
        { type: 'thinking', thinking: THOUGHT, signature: expect.stringMatching(/.+/) },
        { type: 'text', text: SAID },
        { type: 'tool_use', name: 'Bash', input: { command: 'ls' } },
      ],
    })
    const use = first.content.find((block) => block.type === 'tool_use')
    const result = { type: 'tool_result', tool_use_id: use?.id, content: 'a.ts\n', is_error: false }
    const cached = { ...result, cache_control: { type: 'ephemeral' } }
    const last = await ask({ role: 'assistant', content: first.content }, { role: 'user', content: [cached] })
    expect(last).toMatchObject({ stop_reason: 'end_turn', content: [{ type: 'text', text: DONE }] })
    // With the limit that it sends itself, and as it counts before.
    const whole = terminalRequest('Which files are there?')
    const raw = await events('/v1/messages?beta=true', headers, whole)
    expect(raw.map(({ type }) => type)).toContain('content_block_delta')
    const { stream: _, max_tokens, temperature, metadata, context_management, ...prompt } = whole
    const counted = await fetch(`${stack.url}/v1/messages/count_tokens?beta=true`, {
      method: 'POST',
      headers: { ...headers, 'content-type': 'application/json' },
      body: JSON.stringify(prompt),
    })
    expect(await counted.json()).toEqual({ input_tokens: expect.any(Number) })
  })

  test('as with Responses run their loop', async () => {
    const headers = { ...SHELL_HEADERS, authorization: `Bearer ${stack.key}` }
    const all = await events('/v1/responses', headers, shellRequest('List the files$'))
    const output = all.flatMap((event) =>
      event.type === 'response.output_item.done' ? [event.item as object] : [],
    )
    expect(output).toMatchObject([
      { type: 'reasoning', summary: [{ type: 'summary_text', text: 'A shell it is.' }] },
      { type: 'function_call', name: 'shell', arguments: '{"command": ["ls", "-a"]}', status: 'completed' },
    ])
    expect(all.at(-1)).toMatchObject({ type: 'response.completed', response: { store: false } })
    const { call_id } = output[1] as { call_id: string }
    const result = { type: 'function_call_output', call_id, output: 'a.ts\n' }
    const then = await events('/v1/responses', headers, shellRequest('List the files$', [...output, result]))
    expect(then.at(-1)).toMatchObject({
      response: { output: [{ type: 'message', content: [{ type: 'output_text', text: DONE }] }] },
    })
  })
})
