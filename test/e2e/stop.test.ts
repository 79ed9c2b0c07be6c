// The same behaviours over each way in, for serial and for parallel decoding.
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import WebSocket from 'ws'
import {
  type BranchStream,
  type Connection,
  openConnection,
  openStream,
  type Usage,
} from '../../client/index.ts'
import { type Stack, startStack } from './stack.ts'

let stack: Stack
let connection: Connection
beforeAll(async () => {
  stack = await startStack()
  connection = openConnection({ baseUrl: stack.url, apiKey: stack.key, WebSocket })
})
afterAll(async () => {
  connection?.close()
  await stack?.close()
})

interface Ask {
  readonly stop?: string[]
  readonly max_tokens: number
  readonly parallel: boolean
}
interface Answer {
  readonly text: string
  readonly reason: string
  readonly tokens: number
}

const messages = [{ role: 'user' as const, content: 'How do I use tar?' }]

async function sse({ parallel, ...ask }: Ask): Promise<Answer> {
  const response = await fetch(`${stack.url}/v1/chat/completions`, {
    method: 'POST',
    headers: { authorization: `Bearer ${stack.key}`, 'content-type': 'application/json' },
    body: JSON.stringify({
      ...{ model: 'demo', messages, temperature: 0, stream: true, ...ask },
      ...{ stream_options: { include_usage: true }, apar: { enabled: parallel } },
    }),
  })
  const lines = (await response.text()).split('\n').filter((line) => line.startsWith('data: {'))
  const chunks = lines.map((line) => JSON.parse(line.slice('data: '.length)))
  return {
    text: chunks.map(({ choices }) => choices[0]?.delta.content ?? '').join(''),
    reason: chunks.findLast(({ choices }) => choices[0]?.finish_reason)?.choices[0].finish_reason,
    tokens: chunks.at(-1)?.usage.completion_tokens,
  }
}

async function answerOf(stream: BranchStream): Promise<Answer> {
  let end: { reason: string; usage: Usage } | undefined
  for await (const event of stream) if (event.type === 'done') end = event
  if (!end) throw new Error('the stream did not end in done')
  return { text: stream.tree.text(), reason: end.reason, tokens: end.usage.completion_tokens }
}

function branchRequest({ parallel, ...ask }: Ask) {
  const branching = { enabled: parallel }
  return { model: 'demo', messages, temperature: 0, ...ask, stop_scope: 'document' as const, branching }
}

const WAYS: Record<string, (ask: Ask) => Promise<Answer>> = {
  SSE: sse,
  WebSocket: (ask) =>
    answerOf(openStream({ baseUrl: stack.url, apiKey: stack.key, request: branchRequest(ask), WebSocket })),
  'a shared socket': (ask) => answerOf(connection.stream(branchRequest(ask))),
}

for (const [way, ask] of Object.entries(WAYS)) {
  describe.each([
    ['serial', false],
    ['parallel', true],
  ] as const)(`over ${way}, %s`, (_, parallel) => {
    test.each([
      ['in a branch', '...`. Here'],
      ['across a joint', 'archive: To'],
      ['at the very start', ' Here'],
      ['in one token', 'directory'],
    ])('a stop string %s ends the text before its first place in document order', async (_, stop) => {
      const whole = await ask({ parallel, max_tokens: 900 })
      const at = whole.text.indexOf(stop)
      if (at === -1) {
        expect(await ask({ parallel, max_tokens: 900, stop: [stop] })).toEqual(whole)
        return
      }
      const cut = await ask({ parallel, max_tokens: 900, stop: [stop] })
      expect(cut.text).toBe(whole.text.slice(0, at))
      expect(cut.reason).toBe('stop')
      expect(cut.tokens).toBeLessThan(whole.tokens)
      const again = await Promise.all([1, 2, 3].map(() => ask({ parallel, max_tokens: 900, stop: [stop] })))
      for (const answer of again) expect(answer).toEqual(cut)
    })

    test('a stop string and max_tokens give one answer', async () => {
      const request = { parallel, max_tokens: 200, stop: ['`tar'] }
      const [first, ...others] = await Promise.all(Array.from({ length: 8 }, () => ask(request)))
      for (const answer of others) expect(answer).toEqual(first)
      expect(first?.reason === 'length' ? first.tokens : 200).toBe(200)
    })
  })
}

test('the ways agree', async () => {
  for (const parallel of [false, true]) {
    const request = { parallel, max_tokens: 900, stop: ['archive: To'] }
    const [first, ...others] = await Promise.all(Object.values(WAYS).map((ask) => ask(request)))
    for (const answer of others) expect(answer).toEqual(first)
  }
})

test('without the option a stop string ends only its branch', async () => {
  const { stop_scope: _, ...request } = branchRequest({
    parallel: true,
    max_tokens: 900,
    stop: ['...`. Here'],
  })
  const stream = connection.stream(request)
  const { text } = await answerOf(stream)
  for (const branch of stream.tree.branches()) expect(branch.text).not.toContain('...`. Here')
  expect(text.length).toBeGreaterThan(1000)
})

test('a token has log-probabilities exactly if some of its text was given', async () => {
  for (const stop of ['archive', 'tar:']) {
    const response = await fetch(`${stack.url}/v1/chat/completions`, {
      method: 'POST',
      headers: { authorization: `Bearer ${stack.key}`, 'content-type': 'application/json' },
      body: JSON.stringify({
        ...{ model: 'demo', messages, temperature: 0, max_tokens: 120, logprobs: true, stop },
        apar: { enabled: false },
      }),
    })
    const { choices } = (await response.json()) as {
      choices: { message: { content: string }; logprobs: { content: { token: string }[] } }[]
    }
    const tokens = choices[0]?.logprobs.content ?? []
    const content = choices[0]?.message.content ?? ''
    const before = tokens
      .slice(0, -1)
      .map(({ token }) => token)
      .join('')
    const all = tokens.map(({ token }) => token).join('')
    expect(before.length).toBeLessThan(content.length)
    expect(all.startsWith(content)).toBe(true)
  }
})

test('an answer at max_tokens is the same whatever else runs', async () => {
  const alone = await sse({ parallel: true, max_tokens: 150 })
  const crowd = await Promise.all(Array.from({ length: 12 }, () => sse({ parallel: true, max_tokens: 150 })))
  expect(alone).toMatchObject({ reason: 'length', tokens: 150 })
  for (const answer of crowd) expect(answer).toEqual(alone)
})
