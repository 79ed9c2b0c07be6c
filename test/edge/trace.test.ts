import { beforeEach, describe, expect, it } from 'vitest'
import type { ChatCompletion, ChatCompletionChunk, Completion } from '../../shared/openai.ts'
import { accepted, branchEnd, call, delta, deregister, done, heartbeat, register } from './support.ts'

const step = (number: number, text: string) => ({
  ...{ step: number, us: 100 * number, rows: 1, batch_rows: 3, live: 1, sampled: 1 },
  ...{ blocks: 1, used_blocks: 2, cached: 4, attended: 4 },
  ...{ tokens: [{ branch: 0, ids: [7], text }], forks: [], ends: [] },
})
const [one, two] = [step(1, 'a'), step(2, 'b')]
const traceOf = (...steps: object[]) => ({ type: 'trace', steps })
const events = [accepted, delta(0, 'a'), traceOf(one), delta(0, 'b'), branchEnd(0), traceOf(two), done()]
const script = JSON.stringify(events)
const trace = { version: 1, steps: [one, two] }

const TAKES = heartbeat({ capacity: { branches: 8, blocks: 100, start_fields: ['stop_scope', 'trace'] } })

beforeEach(async () => {
  await register('trace', TAKES)
  return () => deregister('trace')
})

function post(path: string, json: object): Promise<Response> {
  return call(path, { method: 'POST', json: { model: 'demo', apar: { trace: true }, ...json } })
}
async function chunksOf<T>(path: string, json: object): Promise<T[]> {
  const text = await (await post(path, { ...json, stream: true })).text()
  const lines = text.split('\n').filter((line) => line.startsWith('data: {'))
  return lines.map((line) => JSON.parse(line.slice('data: '.length)))
}

const messages = [{ role: 'user', content: script }]

describe('apar.trace', () => {
  it('returns the trace of each choice with a chat answer', async () => {
    const { choices } = await (await post('/v1/chat/completions', { messages, n: 2 })).json<ChatCompletion>()
    expect(choices).toMatchObject([
      { message: { content: 'ab' }, apar: { trace } },
      { message: { content: 'ab' }, apar: { trace } },
    ])
  })

  it('streams it in chunks without text, between those with text', async () => {
    const chunks = await chunksOf<ChatCompletionChunk>('/v1/chat/completions', { messages })
    const shown = chunks.map(({ choices: [choice], apar }) => choice?.delta.content ?? apar)
    expect(shown).toEqual([
      '',
      'a',
      { event: 'trace', version: 1, steps: [one] },
      'b',
      { event: 'trace', version: 1, steps: [two] },
      undefined,
    ])
  })

  it('is in text completions, whole and streamed', async () => {
    const { choices } = await (await post('/v1/completions', { prompt: script })).json<Completion>()
    expect(choices).toMatchObject([{ text: 'ab', apar: { trace } }])
    const chunks = await chunksOf<Completion>('/v1/completions', { prompt: script })
    expect(chunks.flatMap(({ apar }) => apar?.steps ?? [])).toEqual([one, two])
  })

  it('is in responses, whole and streamed', async () => {
    expect(await (await post('/v1/responses', { input: script })).json()).toMatchObject({ apar: { trace } })
    const sent = await chunksOf<{ type: string; response?: object }>('/v1/responses', { input: script })
    expect(sent.at(-1)).toMatchObject({ type: 'response.completed', response: { apar: { trace } } })
  })

  it('is in messages, whole and streamed', async () => {
    const json = { messages, max_tokens: 50 }
    expect(await (await post('/v1/messages', json)).json()).toMatchObject({ apar: { trace } })
    const sent = await chunksOf<{ type: string }>('/v1/messages', json)
    expect(sent.find(({ type }) => type === 'message_delta')).toMatchObject({ apar: { trace } })
  })

  it('is nowhere without the option', async () => {
    const plain = JSON.stringify(events.filter(({ type }) => type !== 'trace'))
    const json = { messages: [{ role: 'user', content: plain }], apar: { trace: false } }
    const { choices } = await (await post('/v1/chat/completions', json)).json<ChatCompletion>()
    expect(choices[0]).not.toHaveProperty('apar')
  })

  it('must be true or false', async () => {
    const response = await post('/v1/chat/completions', { messages, apar: { trace: 'yes' } })
    expect(response.status).toBe(400)
    expect(await response.json()).toMatchObject({ error: { param: 'apar.trace' } })
  })

  it('that was not asked for breaks the rules of a node, whose stream then fails', async () => {
    const response = await post('/v1/chat/completions', { messages, apar: {} })
    expect(response.status).toBeGreaterThanOrEqual(500)
  })
})
