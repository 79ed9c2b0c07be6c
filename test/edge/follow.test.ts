import { describe, expect, it } from 'vitest'
import type { Env } from '../../edge/env.ts'
import { type FollowOptions, follow } from '../../edge/streams/http/follow.ts'
import type { StreamEvent } from '../../shared/protocol/events.ts'
import { accepted, delta, done } from './support.ts'

/** One connection to a session: what the session does with the worker's socket, or the error of the attempt. */
type Connection = ((socket: WebSocket) => void) | Error

const STREAM = 'f'.repeat(64)

/** An Env with one session, which handles each connection as the test says. */
function sessionThat(...connections: Connection[]) {
  const queries: string[] = []
  const closed: number[] = []
  const fetch = async (url: URL) => {
    queries.push(url.search)
    const next = connections[queries.length - 1]
    if (!next) throw new Error('the test expects no further connection')
    if (next instanceof Error) throw next
    const { 0: client, 1: server } = new WebSocketPair()
    server.accept()
    server.addEventListener('close', ({ code }) => {
      closed.push(code)
    })
    next(server)
    return { webSocket: client }
  }
  const session = { get: () => ({ fetch }), newUniqueId: () => STREAM, idFromString: () => STREAM }
  return { env: { STREAM_SESSION: session } as unknown as Env, queries, closed }
}

const numbered = [accepted, delta(0, 'a'), delta(0, 'b'), done()].map((event, seq) => {
  return { ...(event === accepted && { stream: STREAM }), ...event, seq }
})

/** Sends events `from` to `to`, and closes with `code`, if there is one. */
function sends(from: number, to: number, code?: number): Connection {
  return (socket) => {
    for (const event of numbered.slice(from, to + 1)) socket.send(JSON.stringify(event))
    if (code !== undefined) socket.close(code)
  }
}

const request = { model: 'demo', messages: [{ role: 'user' as const, content: 'hi' }] }

function options(signal = new AbortController().signal): FollowOptions {
  return { signal, session: {} }
}

async function read(env: Env): Promise<StreamEvent[]> {
  const events: StreamEvent[] = []
  for await (const event of follow(env, request, options())) events.push(event)
  return events
}

describe('a session whose connection is lost', () => {
  it.each([
    ['once', [sends(0, 1, 4000), sends(2, 3)]],
    ['again and again', [sends(0, 0, 4000), sends(1, 1, 4000), sends(2, 2, 4000), sends(3, 3)]],
    [
      'and which refuses the next connection',
      [sends(0, 1, 4000), new Error('reset because its code was updated'), sends(2, 3)],
    ],
    [
      'and which refuses the first connection',
      [new Error('reset because its code was updated'), sends(0, 3)],
    ],
  ])('is resumed: %s', async (_, connections) => {
    const { env, queries } = sessionThat(...connections)
    expect((await read(env)).map(({ seq }) => seq)).toEqual([0, 1, 2, 3])
    expect(queries).toHaveLength(connections.length)
    expect(queries.at(-1)).toContain('relayed=yes')
  })

  it('gets the number of the last event that arrived', async () => {
    const { env, queries } = sessionThat(sends(0, 1, 4000), sends(2, 3))
    await read(env)
    expect(queries.map((query) => new URLSearchParams(query).get('after'))).toEqual([null, '1'])
  })

  it('is given up after several attempts, with the last error', async () => {
    const gone = new Error('broken for good')
    const { env, queries } = sessionThat(sends(0, 0, 4000), ...Array(8).fill(gone))
    await expect(read(env)).rejects.toBe(gone)
    expect(queries.length).toBeLessThan(8)
  })
})

it('throws stream_replaced when another connection has taken over', async () => {
  const { env, queries } = sessionThat(sends(0, 1, 4409))
  await expect(read(env)).rejects.toMatchObject({ code: 'stream_replaced', status: 409 })
  expect(queries).toHaveLength(1)
})

describe('leaving the generator', () => {
  it.each([
    ['ends a stream whose name was not passed on', 1, 1000],
    ['only disconnects from a stream whose name was passed on', 2, 4000],
  ])('%s', async (_, reads, code) => {
    const { env, closed } = sessionThat(sends(0, 1))
    const events = follow(env, request, options())
    for (let i = 0; i < reads; i++) await events.next()
    await events.return()
    await expect.poll(() => closed, { timeout: 20_000 }).toEqual([code])
  })

  it('before the first event still closes the session, which owns the reservation', async () => {
    const { env, closed } = sessionThat(sends(0, 0))
    const events = follow(env, request, options(AbortSignal.abort()))
    expect((await events.next()).done).toBe(true)
    await expect.poll(() => closed, { timeout: 20_000 }).toEqual([1000])
  })
})
