import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { buildEdge } from '../../edge/build.mjs'
import { Call, idsOf, type SseEvent, textsOf } from './http-client.ts'
import { type Stack, startStack } from './stack.ts'

const CHAT = '/v1/chat/completions'
const messages = [{ role: 'user', content: 'How do I use tar?' }]
const branching = { model: 'demo', messages, temperature: 0, max_tokens: 700, apar: {} }
/** A long answer: the end token is forbidden. */
const long = { ...branching, max_tokens: 800, logit_bias: { 2: -100 }, apar: { enabled: false } }
type Request = typeof branching

let stack: Stack

beforeAll(async () => {
  await buildEdge()
  stack = await startStack()
})

afterAll(() => stack?.close())

function ask(request: Request, lastEventId = '', more: object = {}): Call {
  const body = { ...request, ...more, stream: true, apar: { ...request.apar, resumable: true } }
  return new Call(stack, 'POST', CHAT, body, lastEventId ? { 'last-event-id': lastEventId } : {})
}

/** The answer over a connection that is not cut. */
async function wholeText(request: Request): Promise<string> {
  return JSON.parse(await new Call(stack, 'POST', CHAT, request).text()).choices[0].message.content
}

/** Reads up to `most` events, then resets the TCP connection. */
async function read(call: Call, most = Number.POSITIVE_INFINITY): Promise<SseEvent[]> {
  expect(await call.status()).toBe(200)
  const events: SseEvent[] = []
  for await (const event of call.events()) {
    events.push(event)
    if (events.length === most) break
  }
  await call.reset()
  return events
}

/** An id has the number of chunks of each choice, so if each chunk came once and in order, their sums are 1, 2, 3, … */
function expectEachOnce(events: readonly SseEvent[]): void {
  expect(events.at(-1)).toEqual({ id: '', data: '[DONE]' })
  const sums = events.slice(0, -1).map(({ id }) => {
    return id.split(',').reduce((sum, each) => sum + Number(each.split('.')[1]), 0)
  })
  expect(sums).toEqual(sums.map((_, index) => index + 1))
}

async function idle(): Promise<void> {
  const check = () => expect(stack.node.runner.stats()).toMatchObject({ runningRequests: 0, usedBlocks: 0 })
  await vi.waitFor(check, { timeout: 30_000 })
}

describe('an SSE client that loses its connection', () => {
  it.each([
    ['a long answer, now and then', long, { step: 5, choices: 1 }],
    ['an answer with branches, after every event', branching, { step: 1, choices: 1 }],
    ['two answers in one call', long, { step: 8, choices: 2 }],
  ])('gets every event once and in order: %s', async (_, request, { step, choices }) => {
    const whole = await wholeText(request)
    const events: SseEvent[] = []
    let connections = 0
    while (events.at(-1)?.data !== '[DONE]') {
      connections++
      events.push(...(await read(ask(request, events.at(-1)?.id, { n: choices }), step)))
    }
    // The client has resumed at least twice.
    expect(connections).toBeGreaterThan(2)
    expectEachOnce(events)
    expect(textsOf(events)).toEqual(Array(choices).fill(whole))
    await idle()
  })

  it('gets every token id once', async () => {
    const wants = { ...branching, return_token_ids: true }
    const whole = JSON.parse(await new Call(stack, 'POST', CHAT, wants).text())
    const events: SseEvent[] = []
    while (events.at(-1)?.data !== '[DONE]') events.push(...(await read(ask(wants, events.at(-1)?.id), 3)))
    expectEachOnce(events)
    expect(idsOf(events)).toEqual([whole.choices[0].token_ids])
    expect(JSON.parse(events[0]?.data ?? '').prompt_token_ids).toEqual(whole.prompt_token_ids)
    await idle()
  })

  it('gets the rest of an answer that has ended meanwhile, more than once within the grace time', async () => {
    const first = await read(ask(branching), 2)
    await idle()
    const rest = await read(ask(branching, first.at(-1)?.id))
    expectEachOnce([...first, ...rest])
    expect(textsOf([...first, ...rest])).toEqual([await wholeText(branching)])
    expect(await read(ask(branching, first.at(-1)?.id))).toEqual(rest)
    expect(await read(ask(branching, rest.at(-2)?.id))).toEqual([{ id: '', data: '[DONE]' }])
  })

  it('resumes while the edge does not know that the older connection is lost', async () => {
    const older = ask(long)
    const first: SseEvent[] = []
    const reading = older.events()
    for (let i = 0; i < 3; i++) first.push((await reading.next()).value as SseEvent)
    const rest = await read(ask(long, first.at(-1)?.id))
    expectEachOnce([...first, ...rest])
    expect(textsOf([...first, ...rest])).toEqual([await wholeText(long)])
    await older.close()
  })

  it('gets stream_not_found for an unknown stream', async () => {
    for (const stream of ['f'.repeat(64), 'abc']) {
      const call = ask(branching, `${stream}.3`)
      expect(await call.status()).toBe(404)
      expect(JSON.parse(await call.text())).toMatchObject({ error: { code: 'stream_not_found' } })
    }
  })
})
