// `return_token_ids` of chats and completions.
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import * as described from '../../edge/openapi/answers/completions.ts'
import { EventCheck } from '../../edge/streams/event-check.ts'
import { NodeAllowance } from '../../edge/streams/node-allowance.ts'
import type { ChatCompletion, ChatCompletionChunk, Completion } from '../../shared/openai.ts'
import type { GenerateRequest } from '../../shared/protocol/request.ts'
import {
  accepted,
  branchEnd,
  call,
  delta,
  deregister,
  done,
  evict,
  fork,
  framesSeenByNode,
  heartbeat,
  register,
  request,
} from './support.ts'

const KNOWS = ['stop_scope', 'prompt_options', 'return_prompt_token_ids']
const knowing = (start_fields = KNOWS) => heartbeat({ capacity: { branches: 8, blocks: 100, start_fields } })

beforeEach(async () => {
  await register('ids', knowing())
})
afterEach(async () => {
  await deregister('ids')
  await deregister('other')
})

const PROMPT = [1, 70, 71, 72, 73]
const [FORK, CHILD, EOS] = [90, 91, 2]
const tokens = (branch: number, ...ids: number[]) => ids.flatMap((id) => [1, branch, id, 0])
const ended = (branch: number, by = EOS) => [3, branch, 1, by + 1]
const begun = { ...accepted, prompt_tokens: PROMPT.length, prompt_token_ids: PROMPT, rows: [] }

/** "a", then a child's "b", then "c"; the child is slower than its parent, and its last token has no text. */
const forked = [
  begun,
  { ...delta(0, 'a'), rows: tokens(0, 10) },
  { ...fork(0, 1, 1), rows: [...tokens(0, FORK), 2, 0, 1, 6, ...tokens(1, CHILD)] },
  { ...delta(0, 'c'), rows: tokens(0, 30) },
  { ...branchEnd(0), rows: [...tokens(0, 31), ...ended(0)] },
  { ...delta(1, 'b'), rows: tokens(1, 20) },
  { ...branchEnd(1), rows: [...tokens(1, 21), ...ended(1)] },
  { ...done('stop', 7), rows: [] },
]
const IDS = [10, FORK, CHILD, 20, 21, EOS, 30, 31, EOS]

function chat(
  steps: unknown[],
  fields: object = {},
  headers: Record<string, string> = {},
): Promise<Response> {
  const json = { ...request(steps), return_token_ids: true, ...fields }
  return call('/v1/chat/completions', { method: 'POST', json, headers })
}

function completions(steps: unknown[], fields: object = {}): Promise<Response> {
  const json = { model: 'demo', prompt: JSON.stringify(steps), return_token_ids: true, ...fields }
  return call('/v1/completions', { method: 'POST', json })
}

async function chunksOf<C>(response: Response): Promise<C[]> {
  expect(response.status).toBe(200)
  return [...(await response.text()).matchAll(/^data: (\{.*)$/gm)].map(([, line = '']) => JSON.parse(line))
}

/** The ids of a choice in its chunks, together. */
function idsOf(chunks: readonly (ChatCompletionChunk | Completion)[], choice = 0) {
  return chunks.flatMap(({ choices: [first] }) => (first?.index === choice ? (first.token_ids ?? []) : []))
}

it('is in the answers of the OpenAPI document', async () => {
  described.ChatCompletion.parse(await (await chat(forked)).json())
  for (const chunk of await chunksOf(await chat(forked, { stream: true })))
    described.ChatCompletionChunk.parse(chunk)
  const { shape } = described.Completion.shape.choices.element
  expect(Object.keys(shape)).toEqual(expect.arrayContaining(['prompt_token_ids', 'token_ids']))
  described.Completion.parse(await (await completions(forked)).json())
})

describe('a chat', () => {
  it('has the ids of its prompt, and those of each choice in document order', async () => {
    const answer = await (await chat(forked, { n: 2 })).json<ChatCompletion>()
    expect(answer.prompt_token_ids).toEqual(PROMPT)
    expect(answer.choices.map(({ message }) => message.content)).toEqual(['abc', 'abc'])
    expect(answer.choices.map(({ token_ids }) => token_ids)).toEqual([IDS, IDS])
  })

  it.each([undefined, true])(
    'has them in its chunks, none before its text (resumable: %s)',
    async (resumable) => {
      const fields = { stream: true, n: 2, apar: { resumable }, stream_options: { include_usage: true } }
      const chunks = await chunksOf<ChatCompletionChunk>(await chat(forked, fields))
      for (const index of [0, 1]) {
        const own = chunks.filter(({ choices }) => choices[0]?.index === index)
        expect(own.map(({ prompt_token_ids }) => prompt_token_ids)).toEqual([
          PROMPT,
          ...own.slice(1).map(() => undefined),
        ])
        expect(idsOf(own, index)).toEqual(IDS)
        const texts = own.map(({ choices }) => [choices[0]?.delta.content ?? '', choices[0]?.token_ids])
        expect(texts).toEqual([
          ['', []],
          ['a', [10]],
          ['b', [FORK, CHILD, 20]],
          ['c', [21, EOS, 30, 31, EOS]],
          ['', []],
        ])
      }
      expect(chunks.at(-1)).not.toHaveProperty('prompt_token_ids')
    },
  )

  it('ends them where a stop string ends it, whatever has come behind', async () => {
    // The child's last tokens, and the end of its parent, come with the one that completes the stop string.
    const steps = [
      ...forked.slice(0, 5),
      { ...delta(1, 'bx!'), rows: [...tokens(1, 20, 22, 23), ...ended(1)] },
      branchEnd(1),
      { ...done('stop', 5), rows: [] },
    ]
    const stopped = [10, FORK, CHILD, 20, 22]
    const answer = await (await chat(steps, { stop: 'x' })).json<ChatCompletion>()
    expect(answer.choices[0]).toMatchObject({ message: { content: 'ab' }, token_ids: stopped })
    const chunks = await chunksOf<ChatCompletionChunk>(await chat(steps, { stop: 'x', stream: true }))
    expect(idsOf(chunks)).toEqual(stopped)
  })

  it('has those of its reasoning and its calls, too', async () => {
    await register('ids', knowing([...KNOWS, 'tools', 'separate_reasoning']))
    const steps = [
      begun,
      { type: 'reasoning', branch: 0, text: 'hm', rows: tokens(0, 10, 11) },
      { type: 'tool_call', call: 0, call_id: 'a1', name: 'f', rows: tokens(0, 12) },
      { type: 'tool_arguments', call: 0, text: '{}', rows: tokens(0, 13) },
      { ...branchEnd(0), rows: [...tokens(0, 14), ...ended(0)] },
      { ...done('stop', 5), rows: [] },
    ]
    const tools = [{ type: 'function', function: { name: 'f', parameters: {} } }]
    const ids = [10, 11, 12, 13, 14, EOS]
    const answer = await (await chat(steps, { tools })).json<ChatCompletion>()
    expect(answer.choices[0]).toMatchObject({ finish_reason: 'tool_calls', token_ids: ids })
    const chunks = await chunksOf<ChatCompletionChunk>(await chat(steps, { tools, stream: true }))
    expect(chunks.map(({ choices }) => choices[0]?.token_ids)).toEqual([[], [10, 11], [12], [13], [14, EOS]])
  })

  it('has no id twice when its stream moves to another node', async () => {
    await register('other', knowing())
    const steps = [[...forked.slice(0, 3), { die: true }], forked.slice(3)]
    for (const resumable of [undefined, true]) {
      const chunks = await chunksOf<ChatCompletionChunk>(
        await chat(steps, { stream: true, apar: { resumable } }),
      )
      expect(idsOf(chunks)).toEqual(IDS)
      expect(chunks.flatMap(({ prompt_token_ids }) => prompt_token_ids ?? [])).toEqual(PROMPT)
    }
    const answer = await (await chat(steps)).json<ChatCompletion>()
    expect(answer.choices[0]?.token_ids).toEqual(IDS)
  })

  it('has each id once for a client that resumes it after every chunk, though its session is lost', async () => {
    const fields = { stream: true, apar: { resumable: true } }
    const chunks: ChatCompletionChunk[] = []
    let lastId: string | undefined
    for (let connections = 0; connections < 6; connections++) {
      const response = await chat(forked, fields, lastId === undefined ? {} : { 'last-event-id': lastId })
      const text = await response.text()
      const [next] = [...text.matchAll(/^id: (.*)\ndata: (\{.*)$/gm)]
      if (!next) break
      lastId = next[1] ?? ''
      chunks.push(JSON.parse(next[2] ?? ''))
      if (connections === 2) await evict(lastId.replace(/\..*/, ''))
    }
    expect(chunks.length).toBe(5)
    expect(idsOf(chunks)).toEqual(IDS)
  })

  it('has none unless it is asked for them, and neither has what the node is sent', async () => {
    const steps = [{ ...accepted, rows: [] }, ...forked.slice(1)]
    const answer = await (await chat(steps, { return_token_ids: false })).json<ChatCompletion>()
    expect(JSON.stringify(answer)).not.toContain('token_ids')
    const [start] = await framesSeenByNode(answer.id.replace('chatcmpl-', ''))
    expect(start?.request).not.toHaveProperty('return_prompt_token_ids')
    for (const resumable of [undefined, true]) {
      const response = await chat(steps, { return_token_ids: false, stream: true, apar: { resumable } })
      const text = await response.text()
      expect(text).toContain('"content":"c"')
      expect(text).not.toContain('token_ids')
    }
  })

  it('needs a node that knows the field', async () => {
    await register('ids', knowing(['stop_scope', 'prompt_options']))
    const response = await chat(forked)
    expect([response.status, (await response.json<{ error: object }>()).error]).toEqual([
      503,
      expect.objectContaining({ code: 'no_gpu_node' }),
    ])
  })
})

describe('a completion', () => {
  it.each([true, false])('has both in each choice, of several prompts, too (stream: %s)', async (stream) => {
    const steps = JSON.stringify(forked)
    const response = await completions(forked, { prompt: [steps, `${steps} `], n: 2, stream })
    const answers = stream ? await chunksOf<Completion>(response) : [await response.json<Completion>()]
    for (const index of [0, 1, 2, 3]) {
      const own = answers.flatMap(({ choices }) => choices.filter((choice) => choice.index === index))
      expect(own.map(({ text }) => text).join('')).toBe('abc')
      expect(own.flatMap(({ token_ids = [] }) => token_ids)).toEqual(IDS)
      expect(own.map(({ prompt_token_ids }) => prompt_token_ids)).toEqual([
        PROMPT,
        ...own.slice(1).map(() => undefined),
      ])
    }
  })

  it.each([true, false])('echoes the prompt in its text only (stream: %s)', async (stream) => {
    const response = await completions(forked, { echo: true, stream })
    const answers = stream ? await chunksOf<Completion>(response) : [await response.json<Completion>()]
    const own = answers.flatMap(({ choices }) => choices)
    expect(own.map(({ text }) => text).join('')).toBe(`${JSON.stringify(forked)}abc`)
    expect(own[0]?.prompt_token_ids).toEqual(PROMPT)
    expect(idsOf(answers)).toEqual(IDS)
  })

  it.each([true, false])('of no tokens has those of its prompt (stream: %s)', async (stream) => {
    const response = await completions(forked, { echo: true, max_tokens: 0, stream })
    const answers = stream ? await chunksOf<Completion>(response) : [await response.json<Completion>()]
    expect(answers.flatMap(({ choices }) => choices[0]?.prompt_token_ids ?? [])).toEqual(PROMPT)
    expect(idsOf(answers)).toEqual([])
  })
})

describe('what a node may send', () => {
  const plain = request([]) as GenerateRequest
  const wants = { ...plain, return_prompt_token_ids: true }
  const event = (more: object) => ({ ...accepted, seq: 0, stream: 's', prompt_tokens: 2, ...more }) as never
  const check = (asked: GenerateRequest, more: object) => () =>
    new EventCheck('s', asked, 512, []).check(event(more))

  it('is as many ids as its prompt has tokens, if they were asked for', () => {
    expect(check(wants, { prompt_token_ids: [1, 2] })).not.toThrow()
    expect(check(wants, { prompt_token_ids: [1, 2, 3] })).toThrow('3 ids of a prompt of 2 tokens')
    expect(check(wants, {})).toThrow('undefined ids')
    expect(check(plain, {})).not.toThrow()
    expect(check(plain, { prompt_token_ids: [1, 2] })).toThrow('2 ids')
  })

  it('has room for the ids of the longest prompt, if they were asked for', () => {
    const context = 1_000_000
    const ids = JSON.stringify(Array(context).fill(999_999))
    expect(new NodeAllowance({ ...wants, max_tokens: 1 }, context).hasRoomFor(ids)).toBe(true)
    const unasked = new NodeAllowance({ ...plain, max_tokens: 1 }, context)
    expect(() => unasked.hasRoomFor(ids)).toThrow('characters')
  })
})
