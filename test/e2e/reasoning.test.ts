import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { createOpenAICompatible } from '@ai-sdk/openai-compatible'
import Anthropic from '@anthropic-ai/sdk'
import { generateText, streamText } from 'ai'
import OpenAI from 'openai'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { WebSocket } from 'ws'
import { openStream, type StreamEvent } from '../../client/index.ts'
import { scriptedCheckpoint } from '../support/scripted-checkpoint.ts'
import type { TinyFolder } from '../support/tiny-checkpoint.ts'
import { type Stack, startStack } from './stack.ts'

/** The last message ends the prompt, where thinking is not switched. */
const TEMPLATE = `{% for m in messages %}{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}{{ m.content }}{% endfor %}{% if enable_thinking is defined and not enable_thinking %}<think>

</think>

{% endif %}`
const THOUGHT = 'Two and two: let me see.'
const SAID = 'It is four, of course!'
const SHORT = 'Four.'
const ANSWERS = {
  '?': ['<think>', `\n${THOUGHT}\n`, '</think>', `\n\n${SAID}`],
  // Behind a span that the prompt has closed.
  '\n': [SHORT],
}
const question = { role: 'user' as const, content: 'What is 2 + 2?' }

interface Reasoned {
  content?: string | null
  reasoning_content?: string
}

describe('a model that thinks', () => {
  let folder: TinyFolder
  let stack: Stack
  let openai: OpenAI
  let anthropic: Anthropic
  beforeAll(async () => {
    const markers = { '<think>': false, '</think>': false }
    folder = scriptedCheckpoint({ template: TEMPLATE, answers: ANSWERS, markers })
    stack = await startStack({ modelDir: folder.path, modelName: 'thinker' })
    openai = new OpenAI({ baseURL: `${stack.url}/v1`, apiKey: stack.key, maxRetries: 0 })
    anthropic = new Anthropic({ baseURL: stack.url, apiKey: stack.key, maxRetries: 0 })
  }, 60_000)
  afterAll(async () => {
    await stack?.close()
    folder?.remove()
  })

  const chat = { model: 'thinker', messages: [question], max_tokens: 200, temperature: 0 }

  test('answers a chat with reasoning_content, also streamed', async () => {
    const { choices, usage } = await openai.chat.completions.create(chat)
    expect(choices[0]?.message).toMatchObject({
      content: SAID,
      reasoning_content: THOUGHT,
      reasoning: THOUGHT,
    })
    const thinking = usage?.completion_tokens_details?.reasoning_tokens ?? 0
    expect(thinking).toBeGreaterThan(5)
    expect(thinking).toBeLessThan(usage?.completion_tokens ?? 0)
    const stream = await openai.chat.completions.create({
      ...chat,
      stream: true,
      stream_options: { include_usage: true },
    })
    let [thought, said, counted] = ['', '', 0]
    for await (const { choices, usage } of stream) {
      const delta: Reasoned = choices[0]?.delta ?? {}
      thought += delta.reasoning_content ?? ''
      if (delta.content) expect(thought).toBe(THOUGHT)
      said += delta.content ?? ''
      counted = usage?.completion_tokens_details?.reasoning_tokens ?? counted
    }
    expect([thought, said, counted]).toEqual([THOUGHT, SAID, thinking])
  })

  test('does not think, or shows none of it, where a chat says so', async () => {
    const answers = async (fields: object) =>
      (await openai.chat.completions.create({ ...chat, ...fields })).choices[0]?.message
    for (const fields of [
      { reasoning_effort: 'none' },
      // As OpenRouter, DeepSeek and Qwen spell it.
      ...[{ reasoning: { effort: 'none' } }, { reasoning: { enabled: false } }],
      ...[{ thinking: { type: 'disabled' } }, { enable_thinking: false }],
      { chat_template_kwargs: { enable_thinking: false } },
      { reasoning_effort: 'high', chat_template_kwargs: { enable_thinking: false } },
    ]) {
      const message = await answers(fields)
      expect(message?.content).toBe(SHORT)
      expect(message).not.toHaveProperty('reasoning_content')
    }
    expect(await answers({ reasoning_effort: 'high' })).toMatchObject({ reasoning_content: THOUGHT })
    for (const fields of [{ include_reasoning: false }, { reasoning: { exclude: true } }]) {
      const hidden = await answers(fields)
      expect(hidden?.content).toBe(SAID)
      expect(hidden).not.toHaveProperty('reasoning')
    }
    const whole = await answers({ separate_reasoning: false })
    expect(whole?.content).toBe(`<think>\n${THOUGHT}\n</think>\n\n${SAID}`)
  })

  test('gives each branch its reasoning with branch_deltas', async () => {
    const body = { ...chat, stream: true as const, apar: { branch_deltas: true } }
    let thought = ''
    for await (const chunk of await openai.chat.completions.create(body)) {
      const { apar } = chunk as { apar?: { event: string; branch: number } }
      const delta: Reasoned = chunk.choices[0]?.delta ?? {}
      if (apar?.event === 'reasoning') thought += delta.reasoning_content
    }
    expect(thought).toBe(THOUGHT)
  })

  test('answers Messages with thinking blocks, and takes them back', async () => {
    const body = { model: 'thinker', messages: [question], max_tokens: 200, temperature: 0 }
    const answer = await anthropic.messages.create({
      ...body,
      thinking: { type: 'enabled', budget_tokens: 1024 },
    })
    expect(answer.content).toEqual([
      { type: 'thinking', thinking: THOUGHT, signature: expect.stringMatching(/.+/) },
      { type: 'text', text: SAID, citations: null },
    ])
    expect(answer.usage.output_tokens_details?.thinking_tokens).toBeGreaterThan(5)
    const streamed = await anthropic.messages.stream(body).finalMessage()
    expect(streamed.content).toMatchObject([
      { type: 'thinking', thinking: THOUGHT, signature: expect.stringMatching(/.+/) },
      { type: 'text', text: SAID },
    ])
    const omitted = { ...body, thinking: { type: 'adaptive' as const, display: 'omitted' as const } }
    for (const { content } of [
      await anthropic.messages.create(omitted),
      await anthropic.messages.stream(omitted).finalMessage(),
    ])
      expect(content).toMatchObject([{ type: 'thinking', thinking: '' }, { text: SAID }])
    const off = await anthropic.messages.create({ ...body, thinking: { type: 'disabled' } })
    expect(off.content).toMatchObject([{ type: 'text', text: SHORT }])
    const messages = [question, { role: 'assistant' as const, content: answer.content }, question]
    const again = await anthropic.messages.create({ ...body, messages })
    const plain = [question, { role: 'assistant' as const, content: SAID }, question]
    const { usage } = await anthropic.messages.create({ ...body, messages: plain })
    const tokens = ({ input_tokens, cache_read_input_tokens }: Anthropic.Usage) =>
      input_tokens + (cache_read_input_tokens ?? 0)
    expect(tokens(again.usage) - tokens(usage)).toBe(THOUGHT.length + 2)
  })

  test('is cut off within its reasoning', async () => {
    const { content, stop_reason } = await anthropic.messages.create({
      ...{ model: 'thinker', messages: [question], max_tokens: 6, temperature: 0 },
    })
    expect(stop_reason).toBe('max_tokens')
    expect(content).toMatchObject([{ type: 'thinking' }])
    const cut = await openai.responses.create({
      model: 'thinker',
      input: 'What is 2 + 2?',
      max_output_tokens: 6,
    })
    expect(cut.output).toMatchObject([{ type: 'reasoning', status: 'incomplete' }])
  })

  test('answers Responses with reasoning items, and takes them back', async () => {
    const body = { model: 'thinker', input: 'What is 2 + 2?', max_output_tokens: 200, temperature: 0 }
    const answer = await openai.responses.create(body)
    expect(answer.output).toMatchObject([
      {
        type: 'reasoning',
        summary: [],
        content: [{ type: 'reasoning_text', text: THOUGHT }],
        status: 'completed',
      },
      { type: 'message', status: 'completed' },
    ])
    expect(answer.output_text).toBe(SAID)
    expect(answer.usage?.output_tokens_details.reasoning_tokens).toBeGreaterThan(5)
    for (const summary of [null, 'auto' as const]) {
      const stream = openai.responses.stream({ ...body, reasoning: { effort: 'medium', summary } })
      const kind = summary ? 'response.reasoning_summary_text.delta' : 'response.reasoning_text.delta'
      let thought = ''
      for await (const event of stream)
        if (event.type === kind) thought += (event as unknown as { delta: string }).delta
      expect(thought).toBe(THOUGHT)
      const final = await stream.finalResponse()
      const part = { text: THOUGHT }
      expect(final.output[0]).toMatchObject(summary ? { summary: [part] } : { content: [part] })
      expect(final.output_text).toBe(SAID)
    }
    const off = await openai.responses.create({ ...body, reasoning: { effort: 'none' } })
    expect(off.output).toMatchObject([{ type: 'message' }])
    const user = (content: string) => ({ role: 'user' as const, content })
    const input = [user('What is 2 + 2?'), ...answer.output, user('What is 2 + 2?')]
    const again = await openai.responses.create({ ...body, input: input as never })
    const said = answer.output.filter(({ type }) => type === 'message')
    const plain = await openai.responses.create({
      ...body,
      input: [user('What is 2 + 2?'), ...said, user('What is 2 + 2?')] as never,
    })
    const more = (again.usage?.input_tokens ?? 0) - (plain.usage?.input_tokens ?? 0)
    expect(more).toBe(THOUGHT.length + 2)
  })

  test('answers the AI SDK', async () => {
    const provider = createOpenAICompatible({ name: 'apar', baseURL: `${stack.url}/v1`, apiKey: stack.key })
    const ask = { model: provider('thinker'), prompt: 'What is 2 + 2?', temperature: 0 }
    const { text, reasoningText } = await generateText(ask)
    expect([text, reasoningText]).toEqual([SAID, THOUGHT])
    const streamed = streamText(ask)
    expect([await streamed.text, await streamed.reasoningText]).toEqual([SAID, THOUGHT])
  })

  test('answers apar chat: the answer alone into a pipe, both as JSON', async () => {
    const chat = async (...args: string[]) => {
      const settings = ['--url', stack.url, '--key', stack.key, '--temperature', '0']
      const options = { env: { ...process.env, APAR_CONFIG: 'none' } }
      const running = promisify(execFile)(
        process.execPath,
        ['dist/apar.js', 'chat', ...settings, ...args],
        options,
      )
      running.child.stdin?.end()
      return (await running).stdout
    }
    expect(await chat('What is 2 + 2?')).toBe(`${SAID}\n`)
    expect(JSON.parse(await chat('What is 2 + 2?', '--json'))).toMatchObject({
      text: SAID,
      reasoning: THOUGHT,
    })
  })

  test('sends reasoning events over the branch protocol', async () => {
    const stream = openStream({ baseUrl: stack.url, apiKey: stack.key, request: chat, WebSocket })
    const events: StreamEvent[] = []
    for await (const event of stream) events.push(event)
    const thought = events.map((event) => (event.type === 'reasoning' ? event.text : '')).join('')
    const said = events.map((event) => (event.type === 'delta' ? event.text : '')).join('')
    expect([thought, said]).toEqual([THOUGHT, SAID])
  })
})
