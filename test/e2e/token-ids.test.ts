// `return_token_ids` with the engine and its tokenizer: the ids are those of the texts.
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Grammars } from '../../gpu-node/grammar/grammars.ts'
import type { ChatCompletion, ChatCompletionChunk, Completion } from '../../shared/openai.ts'
import { requires } from '../support/requires.ts'
import { scriptedCheckpoint } from '../support/scripted-checkpoint.ts'
import { type Stack, startStack } from './stack.ts'

const served = requires('the grammar engine (python3 with pip)', () => Grammars.available)
const messages = [{ role: 'user', content: 'How do I use tar?' }]
const CHAT = { model: 'demo', messages, temperature: 0, max_tokens: 700, return_token_ids: true }
const SERIAL = { apar: { enabled: false } }
const CHATS = '/v1/chat/completions'

let stack: Stack
/** The special tokens that an answer may have. */
let special: { fork: number; child: number; end: number }
beforeAll(async () => {
  stack = await startStack()
  const { tokens } = stack.node.runner.checkpoint
  const [end = -1] = tokens.eos
  special = { fork: tokens.fork ?? -1, child: tokens.child ?? -1, end }
})
afterAll(() => stack?.close())

async function post<T>(path: string, body: object, to = stack): Promise<T> {
  const response = await ask(path, body, to)
  return (await response.json()) as T
}

async function ask(path: string, body: object, to = stack): Promise<Response> {
  const headers = { authorization: `Bearer ${to.key}`, 'content-type': 'application/json' }
  const response = await fetch(`${to.url}${path}`, { method: 'POST', headers, body: JSON.stringify(body) })
  expect(response.status).toBe(200)
  return response
}

async function chunksOf(body: object, to = stack): Promise<ChatCompletionChunk[]> {
  const text = await (await ask(CHATS, { ...body, stream: true }, to)).text()
  return [...text.matchAll(/^data: (\{.*)$/gm)].map(([, line = '']) => JSON.parse(line))
}

const tokenize = async (body: object, to = stack) =>
  (await post<{ tokens: number[] }>('/tokenize', body, to)).tokens
const textOf = async (tokens: readonly number[], to = stack) =>
  (await post<{ prompt: string }>('/detokenize', { tokens }, to)).prompt
const joinedOf = (chunks: readonly ChatCompletionChunk[]) =>
  chunks.flatMap(({ choices }) => choices[0]?.token_ids ?? [])

describe('the ids of a chat', () => {
  it('are what the model was given and has made, with the token that ended it', async () => {
    const {
      choices,
      prompt_token_ids = [],
      usage,
    } = await post<ChatCompletion>(CHATS, { ...CHAT, ...SERIAL })
    const [{ message, token_ids = [], finish_reason } = {}] = choices
    expect(finish_reason).toBe('stop')
    expect(prompt_token_ids).toEqual(await tokenize({ messages }))
    expect(token_ids.at(-1)).toBe(special.end)
    expect(token_ids.length).toBe(usage.completion_tokens + 1)
    expect((await textOf(token_ids.slice(0, -1))).trimStart()).toBe(message?.content)
    // As a prompt they make the model go on where it was.
    const half = token_ids.length >> 1
    const prompt = [...prompt_token_ids, ...token_ids.slice(0, half)]
    const rest = await post<Completion>('/v1/completions', {
      ...CHAT,
      messages: undefined,
      prompt,
      ...SERIAL,
    })
    expect(rest.choices[0]).toMatchObject({ prompt_token_ids: prompt, token_ids: token_ids.slice(half) })
  })

  it('of branches stand where their texts stand, also in its chunks', async () => {
    const { choices, usage, prompt_token_ids } = await post<ChatCompletion>(CHATS, CHAT)
    const [{ message, token_ids = [] } = {}] = choices
    const count = (id: number) => token_ids.filter((token) => token === id).length
    expect(count(special.fork)).toBeGreaterThan(0)
    expect(count(special.child)).toBe(count(special.fork))
    expect(token_ids.length).toBe(usage.completion_tokens + count(special.end))
    const said = token_ids.filter((id) => !Object.values(special).includes(id))
    expect((await textOf(said)).trimStart()).toBe(message?.content)

    const chunks = await chunksOf(CHAT)
    expect(chunks[0]?.prompt_token_ids).toEqual(prompt_token_ids)
    expect(joinedOf(chunks)).toEqual(token_ids)
    let text = ''
    const ids: number[] = []
    for (const { choices } of chunks) {
      text += choices[0]?.delta.content ?? ''
      ids.push(...(choices[0]?.token_ids ?? []))
      const known = await textOf(ids.filter((id) => !Object.values(special).includes(id)))
      expect(text.startsWith(known.trimStart())).toBe(true)
    }
  })

  it('end with the token that completes a stop string, or the last one of a limit', async () => {
    const whole = await post<ChatCompletion>(CHATS, CHAT)
    const content = whole.choices[0]?.message.content ?? ''
    const all = whole.choices[0]?.token_ids ?? []
    for (const place of [0.3, 0.6, 0.9]) {
      const stop = content.slice(Math.floor(content.length * place)).slice(0, 6)
      const { choices, usage } = await post<ChatCompletion>(CHATS, { ...CHAT, stop })
      const [{ message, token_ids = [] } = {}] = choices
      expect(token_ids).toEqual(all.slice(0, token_ids.length))
      const ends = token_ids.filter((id) => id === special.end).length
      expect(token_ids.length).toBe(usage.completion_tokens + ends)
      const until = (ids: readonly number[]) =>
        textOf(ids.filter((id) => !Object.values(special).includes(id)))
      expect(await until(token_ids)).toContain(`${message?.content}${stop}`)
      expect(await until(token_ids.slice(0, -1))).not.toContain(`${message?.content}${stop}`)
      expect(joinedOf(await chunksOf({ ...CHAT, stop }))).toEqual(token_ids)
    }
    const limited = await post<ChatCompletion>(CHATS, { ...CHAT, ...SERIAL, max_tokens: 5 })
    expect(limited.choices[0]?.token_ids).toHaveLength(5)
  })

  it.runIf(served)('have its calls of tools', async () => {
    const parameters = { type: 'object', properties: { days: { type: 'integer', minimum: 0, maximum: 9 } } }
    const strict = { ...parameters, required: ['days'], additionalProperties: false }
    const tools = [{ type: 'function', function: { name: 'forecast', parameters: strict } }]
    const body = { ...CHAT, tools, tool_choice: 'required' }
    const { choices, usage } = await post<ChatCompletion>(CHATS, body)
    const [{ message, token_ids = [] } = {}] = choices
    const args = message?.tool_calls?.[0]?.function.arguments ?? 'none'
    expect(await textOf(token_ids)).toContain(args)
    expect(token_ids.length).toBeGreaterThanOrEqual(usage.completion_tokens)
    expect(joinedOf(await chunksOf(body))).toEqual(token_ids)
  })

  it.runIf(served)('of members in parallel are those of the document', async () => {
    const number = { type: 'integer', minimum: 0, maximum: 99 }
    const schema = {
      type: 'object',
      properties: { width: number, height: number, name: { type: 'string', maxLength: 12 } },
      required: ['width', 'height', 'name'],
      additionalProperties: false,
    }
    const response_format = { type: 'json_schema', json_schema: { name: 'size', schema } }
    const body = { ...CHAT, response_format, apar: { parallel_format: true } }
    const { choices, usage } = await post<ChatCompletion>(CHATS, body)
    const [{ message, token_ids = [] } = {}] = choices
    expect(Object.keys(JSON.parse(message?.content ?? ''))).toEqual(['width', 'height', 'name'])
    expect(token_ids.length).toBeGreaterThanOrEqual(usage.completion_tokens)
    const said = token_ids.filter((id) => !Object.values(special).includes(id))
    expect((await textOf(said)).trimStart()).toBe(message?.content)
    expect(joinedOf(await chunksOf(body))).toEqual(token_ids)
  })

  it('have its reasoning with the markers', async () => {
    const folder = scriptedCheckpoint({
      template: '{% for m in messages %}{{ m.content }}{% endfor %}',
      answers: { '?': ['<think>', '\nLet me see.\n', '</think>', '\n\nFour.'] },
      markers: { '<think>': false, '</think>': false },
    })
    const thinker = await startStack({ modelDir: folder.path, modelName: 'thinker' })
    try {
      const body = {
        ...CHAT,
        model: 'thinker',
        messages: [{ role: 'user', content: '2 + 2?' }],
        max_tokens: 200,
      }
      const { choices } = await post<ChatCompletion>(CHATS, body, thinker)
      const [{ message, token_ids = [] } = {}] = choices
      expect(message).toMatchObject({ content: 'Four.', reasoning_content: 'Let me see.' })
      const text = await textOf(token_ids, thinker)
      expect(text).toContain('<think>\nLet me see.\n</think>\n\nFour.')
      expect(joinedOf(await chunksOf(body, thinker))).toEqual(token_ids)
    } finally {
      await thinker.close()
      folder.remove()
    }
  }, 60_000)
})

describe('the ids of a completion', () => {
  const prompts = ['How do I use tar?', 'Linux is']
  const body = { model: 'demo', temperature: 0, max_tokens: 20, return_token_ids: true, ...SERIAL }

  it('are those of each of its prompts', async () => {
    const { choices } = await post<Completion>('/v1/completions', { ...body, prompt: prompts, n: 2 })
    const tokens = await Promise.all(prompts.map((prompt) => tokenize({ prompt, parse_special: false })))
    expect(choices.map(({ prompt_token_ids }) => prompt_token_ids)).toEqual([
      ...[tokens[0], tokens[0], tokens[1], tokens[1]],
    ])
    for (const { text, token_ids = [] } of choices) {
      const said = token_ids.filter((id) => id !== special.end)
      expect(await textOf(said)).toBe(text)
    }
  })

  it('are the prompt itself where that has ids, echoed or not', async () => {
    const prompt = await tokenize({ prompt: prompts[0] })
    for (const echo of [false, true]) {
      const { choices } = await post<Completion>('/v1/completions', { ...body, prompt, echo })
      expect(choices[0]?.prompt_token_ids).toEqual(prompt)
    }
  })
})
