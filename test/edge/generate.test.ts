import { env } from 'cloudflare:test'
import { beforeEach, describe, expect, it } from 'vitest'
import type { Principal } from '../../edge/keys/principal.ts'
import { generate } from '../../edge/streams/http/generate.ts'
import type { StreamEvent } from '../../shared/protocol/events.ts'
import { GenerateRequest } from '../../shared/protocol/request.ts'
import { accepted, delta, done, framesSeenByNode, heartbeat, register, request } from './support.ts'

beforeEach(async () => {
  await register('generate')
})

/** A stream of this test's own call, and all events that were observed. */
function start(steps: unknown[], principal?: Principal) {
  const observed: StreamEvent[] = []
  const client = new AbortController()
  const events = generate(env, GenerateRequest.parse(request(steps)), {
    principal,
    signal: client.signal,
    observe: (event) => observed.push(event),
    waitUntil: () => {},
  })
  return { events, observed, client }
}

const types = (events: readonly { type?: unknown }[]) => events.map(({ type }) => type)

function streamOf([first]: readonly StreamEvent[]): string {
  if (first?.type !== 'accepted') throw new Error('the stream was not accepted')
  return first.stream
}

describe('the tenant of a call', () => {
  const principal = { id: 'key:team', scopes: ['generate' as const], models: null, limits: {}, weight: 2 }

  async function startFrame(): Promise<Record<string, unknown> | undefined> {
    const { events, observed } = start([accepted, done()], principal)
    for await (const _ of events);
    return (await framesSeenByNode(streamOf(observed)))[0]
  }

  it('is named to a node that takes it, by a hash', async () => {
    await register(
      'generate',
      heartbeat({ capacity: { branches: 8, blocks: 100, start_fields: ['tenant'] } }),
    )
    // printf key:team | sha256sum | cut -c1-16
    expect((await startFrame())?.tenant).toEqual({ id: '4ccea95d7d762546', weight: 2, priority: 0 })
  })

  it('is not named to an older node', async () => {
    expect(await startFrame()).not.toHaveProperty('tenant')
  })
})

describe('a call whose client disconnects', () => {
  const answer = [accepted, delta(0, 'a'), { await: 'frame' }, done('abort', 3)]

  it.each(['while it waits', 'between two events'])(
    'cancels the stream, and counts its final usage: %s',
    async (when) => {
      const { events, observed, client } = start(answer)
      await events.next()
      await events.next()
      const waiting = when === 'while it waits' ? events.next() : undefined
      client.abort()
      expect(await (waiting ?? events.next())).toEqual({ done: true, value: undefined })
      expect(types(observed)).toEqual(['accepted', 'delta', 'done'])
      expect(types(await framesSeenByNode(streamOf(observed)))).toEqual(['start', 'cancel', 'ack'])
    },
  )

  it('cancels the stream when its generator is left', async () => {
    const { events, observed } = start(answer)
    for await (const event of events) if (event.type === 'delta') break
    expect(types(observed)).toEqual(['accepted', 'delta', 'done'])
  })

  it('cancels the stream also when the client disconnected before it was started', async () => {
    const { events, observed, client } = start([{ await: 'frame' }, accepted, done('abort')])
    client.abort()
    expect((await events.next()).done).toBe(true)
    expect(types(await framesSeenByNode(streamOf(observed)))).toEqual(['start', 'cancel', 'ack'])
  })
})
