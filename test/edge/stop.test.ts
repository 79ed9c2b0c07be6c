import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { ChatCompletion } from '../../shared/openai.ts'
import {
  accepted,
  branchEnd,
  call,
  delta,
  deregister,
  done,
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
