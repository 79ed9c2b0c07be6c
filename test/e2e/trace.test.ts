import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import WebSocket from 'ws'
import { asksEdge } from '../../cli/trace/ask.ts'
import { Replay } from '../../cli/trace/replay.ts'
import { traceQuestion } from '../../cli/trace/trace-question.ts'
import { openStream } from '../../client/index.ts'
import type { ChatCompletion } from '../../shared/openai.ts'
import type { TraceStep } from '../../shared/protocol/trace.ts'
import { type Stack, startStack } from './stack.ts'

const messages = [{ role: 'user' as const, content: 'How do I use tar?' }]
const request = { model: 'demo', messages, temperature: 0, max_tokens: 200, trace: true }

let stack: Stack
beforeAll(async () => {
  stack = await startStack()
})
afterAll(async () => {
  await stack?.close()
})

function textOf(steps: readonly TraceStep[]): string {
  const replay = new Replay('kept')
  for (const step of steps) replay.advance(step)
  return replay.tree.text()
}

describe('a trace from the engine through the edge', () => {
  it('comes with a stream, and gives the same text and tokens as the stream itself', async () => {
    const stream = openStream({ baseUrl: stack.url, apiKey: stack.key, request, WebSocket })
    const steps: TraceStep[] = []
    let given = 0
    for await (const event of stream) {
      if (event.type === 'trace') steps.push(...event.steps)
      if (event.type === 'done') given = event.usage.completion_tokens
    }
    expect(textOf(steps)).toBe(stream.tree.text())
    const tokens = steps.flatMap((step) => step.tokens.flatMap(({ ids }) => ids))
    expect(tokens).toHaveLength(given)
    const forks = steps.flatMap((step) => step.forks)
    expect(forks).toHaveLength(stream.tree.branches().length - 1)
    expect(forks.length).toBeGreaterThan(0)
    const times = steps.map(({ us }) => us)
    expect(times).toEqual(times.toSorted((a, b) => a - b))
    expect(Math.max(...steps.map(({ live }) => live))).toBeGreaterThan(1)
  })

  it('comes with a chat completion', async () => {
    const { trace, ...fields } = request
    const response = await fetch(`${stack.url}/v1/chat/completions`, {
      method: 'POST',
      headers: { authorization: `Bearer ${stack.key}`, 'content-type': 'application/json' },
      body: JSON.stringify({ ...fields, apar: { trace } }),
    })
    const { choices, usage } = (await response.json()) as ChatCompletion
    const steps = choices[0]?.apar?.trace.steps ?? []
    expect(textOf(steps)).toBe(choices[0]?.message.content)
    expect(steps[0]?.prompt).toHaveLength(usage.prompt_tokens)
  })

  it('is what apar trace --url writes, both turns of a question', async () => {
    const question = { id: '1', category: 'c', before: [], turns: ['How do I use tar?', 'And ls?'], line: {} }
    const settings = { model: 'demo', temperature: 0, max_tokens: 60 }
    const { lines, tokens } = await traceQuestion(
      asksEdge(stack.url, stack.key),
      question,
      'serial',
      settings,
    )
    const ends = lines.filter((line) => line.type === 'end')
    expect(ends.map(({ turn }) => turn)).toEqual([1, 2])
    expect(ends.reduce((sum, { usage }) => sum + usage.completion_tokens, 0)).toBe(tokens)
    expect(lines.every((line) => line.type !== 'step' || line.live === 1)).toBe(true)
  })
})
