import { env } from 'cloudflare:test'
import { beforeEach, describe, expect, it } from 'vitest'
import { generate } from '../../edge/streams/http/generate.ts'
import type { StreamEvent } from '../../shared/protocol/events.ts'
import { GenerateRequest } from '../../shared/protocol/request.ts'
import { accepted, delta, done, framesSeenByNode, register, request } from './support.ts'

beforeEach(async () => {
  await register('generate')
})

/** A stream in this test's own call, and all that was counted of it. */
function start(steps: unknown[]) {
  const observed: StreamEvent[] = []
  const leave = new AbortController()
  const events = generate(env, GenerateRequest.parse(request(steps)), {
    signal: leave.signal,
    observe: (event) => observed.push(event),
    finish: () => {},
  })
  return { events, observed, leave }
}

const types = (events: readonly { type?: unknown }[]) => events.map(({ type }) => type)

function streamOf([first]: readonly StreamEvent[]): string {
  if (first?.type !== 'accepted') throw new Error('the stream was not accepted')
  return first.stream
}

describe('a call whose client leaves', () => {
  const answer = [accepted, delta(0, 'a'), { await: 'frame' }, done('abort', 3)]

  it.each(['while it waits', 'between two events'])('cancels, and counts the last word: %s', async (when) => {
    const { events, observed, leave } = start(answer)
    await events.next()
    await events.next()
    const waiting = when === 'while it waits' ? events.next() : undefined
    leave.abort()
    expect(await (waiting ?? events.next())).toEqual({ done: true, value: undefined })
    expect(types(observed)).toEqual(['accepted', 'delta', 'done'])
    expect(types(await framesSeenByNode(streamOf(observed)))).toEqual(['start', 'cancel', 'ack'])
  })

  it('cancels when its loop is left', async () => {
    const { events, observed } = start(answer)
    for await (const event of events) if (event.type === 'delta') break
    expect(types(observed)).toEqual(['accepted', 'delta', 'done'])
  })

  it('had left before it began', async () => {
    const { events, observed, leave } = start([{ await: 'frame' }, accepted, done('abort')])
    leave.abort()
    expect((await events.next()).done).toBe(true)
    expect(types(await framesSeenByNode(streamOf(observed)))).toEqual(['start', 'cancel', 'ack'])
  })
})
