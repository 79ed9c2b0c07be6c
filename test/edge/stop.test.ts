import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import type { ChatCompletion } from '../../shared/openai.ts'
import type { StreamEvent } from '../../shared/protocol/events.ts'
import type { Heartbeat } from '../../shared/protocol/fleet.ts'
import {
  accepted,
  branchEnd,
  Client,
  call,
  delta,
  deregister,
  done,
  evict,
  fakeNodeUrl,
  fork,
  framesSeenByNode,
  heartbeat,
  register,
  request,
} from './support.ts'

function complete(steps: unknown[], fields: object = {}): Promise<Response> {
  return call('/v1/chat/completions', { method: 'POST', json: request(steps, fields) })
}

const TAKES_STOP_SCOPE = heartbeat({
  capacity: { branches: 8, blocks: 100, start_fields: ['stop_scope'] },
})

beforeEach(async () => {
  await register('stop', TAKES_STOP_SCOPE)
})
afterEach(async () => {
  await deregister('stop')
  vi.restoreAllMocks()
})

describe('a stop string', () => {
  /** The root forks after "1. a"; the child's text comes before the root's " 2." in document order. */
  const events = [
    accepted,
    delta(0, '1. a'),
    fork(0, 1, 4),
    delta(0, ' 2.'),
    branchEnd(0),
    delta(1, 'b c'),
    branchEnd(1),
    done(),
  ]

  it.each([
    ['across the joint of a child', 'ab', '1. '],
    ['across the joint of a continuation', 'c 2', '1. ab '],
    ['in a branch', 'b c', '1. a'],
    ['in the last text', '2.', '1. ab c '],
    ['nowhere', 'c 3', '1. ab c 2.'],
  ])('%s ends the text before its first place in document order', async (_, stop, text) => {
    const { choices } = await (await complete(events, { stop })).json<ChatCompletion>()
    expect(choices[0]).toMatchObject({ message: { content: text }, finish_reason: 'stop' })
  })

  it('decides the reason, also when a token limit ended other text', async () => {
    const limited = [...events.slice(0, -2), branchEnd(1, 'length'), done('length')]
    const { choices } = await (await complete(limited, { stop: 'ab' })).json<ChatCompletion>()
    expect(choices[0]).toMatchObject({ finish_reason: 'stop' })
    const whole = await (await complete(limited, { stop: 'zz' })).json<ChatCompletion>()
    expect(whole.choices[0]).toMatchObject({ finish_reason: 'length' })
  })

  it.each([
    ['reaches a node that knows it', TAKES_STOP_SCOPE, 'document'],
    ['does not reach a node of an older version', heartbeat(), undefined],
  ])('%s as stop_scope', async (_, node, scope) => {
    await register('stop', node)
    const { id, choices } = await (await complete(events, { stop: 'c 2' })).json<ChatCompletion>()
    expect(choices[0]).toMatchObject({ message: { content: '1. ab ' } })
    const [start] = await framesSeenByNode(id.replace('chatcmpl-', ''))
    expect(start?.request).toHaveProperty('stop', ['c 2'])
    expect((start?.request as { stop_scope?: string } | undefined)?.stop_scope).toBe(scope)
  })
})

describe('a stream that moves', () => {
  const begun = [accepted, delta(0, 'a')]
  const rest = [delta(0, 'b'), branchEnd(0), done()]
  const script = [[...begun, { await: 'cancel_branch' }, { die: true }], rest]
  const fields = { stop: ['END'], stop_scope: 'document' }

  /** The stream has begun on the one, leaves it, and then there are `later`. Returns its other events. */
  async function moved(one: Heartbeat, later: Record<string, Heartbeat>): Promise<[string, StreamEvent[]]> {
    await register('stop', one)
    const client = await Client.generate(script, fields)
    const first = await client.next()
    await client.next()
    await Promise.all(Object.entries(later).map(([id, json]) => register(id, json)))
    client.send({ type: 'cancel_branch', branch: 7 })
    const events = await client.rest()
    await Promise.all(Object.keys(later).map(deregister))
    return [(first as { stream: string }).stream, events]
  }

  const at = (path: string, node: Heartbeat) => ({ ...node, url: `${fakeNodeUrl}/${path}` })

  async function scopesOf(stream: string): Promise<unknown[]> {
    const frames = await framesSeenByNode(stream)
    const starts = frames.filter(({ type }) => type === 'start')
    return starts.map(({ request }) => (request as { stop_scope?: string }).stop_scope)
  }

  it('keeps out of the new scope when it began without it', async () => {
    const [stream, events] = await moved(at('old', heartbeat()), { new: at('new', TAKES_STOP_SCOPE) })
    expect(events).toMatchObject(rest)
    expect(await scopesOf(stream)).toEqual([undefined, undefined])
  })

  it('goes on only at a node that knows the scope with which it began', async () => {
    // The other would be chosen for its load.
    const loaded = { ...TAKES_STOP_SCOPE, load: { running: 50, waiting: 50, free_blocks: 50 } }
    const nodes = { old: at('old', heartbeat()), new: at('new', loaded) }
    const [stream, events] = await moved(at('first', TAKES_STOP_SCOPE), nodes)
    expect(events).toMatchObject(rest)
    expect(await scopesOf(stream)).toEqual(['document', 'document'])
  })

  it('still has its scope when its session has lost its memory', async () => {
    vi.spyOn(console, 'error').mockImplementation(() => {})
    await register('stop', at('first', heartbeat()))
    const forgetful = [[...begun, { await: 'cancel_branch' }, { restart: true }], rest]
    const client = await Client.generate(forgetful, fields)
    const { stream } = (await client.next()) as { stream: string }
    await client.next()
    await evict(stream)
    const resumed = await Client.resume(stream, 0)
    expect(await resumed.next()).toMatchObject({ type: 'delta', seq: 1 })
    await register('new', at('new', TAKES_STOP_SCOPE))
    resumed.send({ type: 'cancel_branch', branch: 7 })
    expect(await resumed.rest()).toMatchObject(rest)
    expect(await scopesOf(stream)).toEqual([undefined, undefined])
    await deregister('new')
  })
})

it('does not move a request that would fail on any node', async () => {
  const error = { type: 'error', code: 'engine_error', message: 'not finite', param: null, retry: false }
  const response = await complete([accepted, error])
  expect(response.status).toBe(500)
  expect(await response.json()).toMatchObject({ error: { code: 'engine_error', message: 'not finite' } })
})

describe('what might be the beginning of a stop string', () => {
  it('is sent only when it cannot be', async () => {
    const steps = [
      accepted,
      delta(0, 'one E'),
      delta(0, 'N'),
      delta(0, 'Q two EN'),
      delta(0, 'D three'),
      branchEnd(0),
      done(),
    ]
    const response = await complete(steps, { stop: 'END', stream: true })
    const lines = (await response.text()).split('\n').filter((line) => line.startsWith('data: {'))
    const pieces = lines.flatMap(
      (line) => JSON.parse(line.slice('data: '.length)).choices[0]?.delta.content || [],
    )
    expect(pieces).toEqual(['one ', 'ENQ two '])
  })
})
