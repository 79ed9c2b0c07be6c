import { beforeEach, describe, expect, it, vi } from 'vitest'
import { EventCheck } from '../../edge/streams/event-check.ts'
import { NodeAllowance } from '../../edge/streams/node-allowance.ts'
import { NodeReader } from '../../edge/streams/node-reader.ts'
import { Upstream } from '../../edge/streams/upstream.ts'
import { MAX_NODE_FRAME_CHARS } from '../../shared/protocol/node.ts'
import { StreamLog } from '../../shared/stream-log.ts'
import {
  accepted,
  admin,
  branchEnd,
  Client,
  call,
  delta,
  done,
  fork,
  registerTwo,
  request,
} from './support.ts'

interface AdminNode {
  id: string
  lease_seconds: number
  suspended: { times: number; code: string; reason: string } | null
}

let ids: string[]
beforeEach(async () => {
  ids = await registerTwo()
  vi.spyOn(console, 'warn').mockImplementation(() => {})
})

/** Those of this test. */
async function suspended(): Promise<AdminNode[]> {
  const response = await call('/admin/v1/nodes', { key: 'admin-key-of-the-tests' })
  const { data } = await response.json<{ data: AdminNode[] }>()
  return data.filter((node) => node.suspended !== null && ids.includes(node.id))
}

const begun = [accepted, delta(0, 'a'), fork(0, 1, 1)]
const rest = [delta(1, 'b'), branchEnd(1), branchEnd(0), done()]
const hugeUsage = done('stop', 1e15)
const raw = (events: object[], rows: number[] = []) => ({ raw: JSON.stringify({ rows, events }) })
const endless = Array.from({ length: 6000 }, () => delta(0, 'x'))
const children = Array.from({ length: 300 }, (_, index) => fork(0, index + 2, 1))

const NONSENSE: readonly [string, unknown[], RegExp][] = [
  ['text of a branch that does not exist', [delta(7, 'x')], /no branch 7/],
  ['a branch with a number that is in use', [fork(0, 1, 1)], /number 1 /],
  ['a branch of a parent that does not exist', [fork(9, 10, 0)], /no branch 9/],
  ['a fork behind the end of its text', [fork(0, 2, 1e9)], /a fork at 1000000000/],
  ['endless children', children, /more than 4 live branches/],
  ['children of children of children', [fork(1, 2, 0), fork(2, 3, 0)], /deeper than 3/],
  ['text after the end of its branch', [fork(0, 2, 1), branchEnd(2), delta(2, 'x')], /branch 2 has ended/],
  ['a second beginning', [accepted], /second accepted/],
  ['a number that is not the next', [{ ...delta(0, 'x'), seq: 99 }], /event 99 instead of/],
  ['usage that no key could pay', [hugeUsage], /usage of 5 and 1000000000000000/],
  ['tokens without end', endless, /more than the \d+ rows/],
  ['text without tokens', [raw([{ ...delta(0, 'x'.repeat(100_000)), seq: 3 }])], /characters for/],
  ['300 MB of text', [{ flood: 300 }], /characters for 3 rows/],
  ['half a row', [raw([{ ...delta(0, 'x'), seq: 3 }], [1, 2])], /half a row/],
  ['no JSON', [{ raw: 'hello' }], /not valid JSON/],
  ['a call without tools', [{ type: 'tool_call', call: 0, call_id: 'a', name: 'f' }], /without tools/],
]
const LIMITS = { max_tokens: 8, branching: { max_branches: 4, max_depth: 3 } }

describe('calls of tools', () => {
  const begins = (call: number, name = 'f') => ({
    type: 'tool_call' as const,
    seq: 1,
    call,
    call_id: 'a',
    name,
  })
  const goesOn = (call: number) => ({ type: 'tool_arguments' as const, seq: 1, call, text: '{' })
  const check = () => new EventCheck('s', { model: 'demo', messages: [], tools: [{ name: 'f' }] }, 512, [])

  it('come in order', () => {
    const events = check()
    for (const event of [begins(0), goesOn(0), goesOn(0), begins(1), goesOn(1)]) events.check(event)
  })

  it.each([
    ['of a tool that there is not', [begins(0, 'g')], /does not have/],
    ['that skip a number', [begins(1)], /call 1 of 1/],
    ['that go on with an earlier one', [begins(0), begins(1), goesOn(0)], /call 0 of 2/],
    ['that go on before they begin', [goesOn(0)], /call 0 of 0/],
  ])('%s are nonsense', (_, events, reason) => {
    const checked = check()
    expect(() => {
      for (const event of events) checked.check(event)
    }).toThrow(reason)
  })
})

describe('a gpu node that sends', () => {
  it.each(NONSENSE)('%s loses its lease, and the stream goes on at another', async (_, nonsense, reason) => {
    const client = await Client.generate([[...begun, ...nonsense], rest], LIMITS)
    const events = await client.rest()
    expect(events.slice(0, 3)).toMatchObject(begun)
    expect(events.slice(-4)).toMatchObject(rest)
    expect(events.map(({ seq }) => seq)).toEqual(events.map((_, index) => index))
    await vi.waitFor(async () => expect(await suspended()).toHaveLength(1))
    const [node] = await suspended()
    expect(node).toMatchObject({ lease_seconds: 0, suspended: { times: 1 } })
    expect(node?.suspended?.reason).toMatch(reason)
  })

  it.each(NONSENSE)('%s does the same to an HTTP call without a session', async (_, nonsense, reason) => {
    const body = { ...request([[...begun, ...nonsense], rest]), max_tokens: LIMITS.max_tokens }
    const json = { ...body, apar: { max_branches: 4, max_depth: 3 } }
    const response = await call('/v1/chat/completions', { method: 'POST', json })
    expect(response.status).toBe(200)
    const { choices } = await response.json<{ choices: { message: { content: string } }[] }>()
    expect(choices[0]?.message.content).toMatch(/^abx*$/)
    await vi.waitFor(async () => expect(await suspended()).toHaveLength(1))
    expect((await suspended())[0]?.suspended?.reason).toMatch(reason)
  })

  it('events after the last one changes nothing', async () => {
    const client = await Client.generate([accepted, delta(0, 'a'), branchEnd(0), done(), delta(0, 'b')])
    expect((await client.rest()).at(-1)).toMatchObject({ type: 'done' })
    expect(await suspended()).toEqual([])
  })

  it('another stream than the one that was started loses its lease', async () => {
    const client = await Client.generate([
      [{ ...accepted, stream: 'another' }],
      [accepted, branchEnd(0), done()],
    ])
    expect((await client.rest()).map(({ type }) => type)).toEqual(['accepted', 'branch_end', 'done'])
    await vi.waitFor(async () => expect(await suspended()).toHaveLength(1))
  })
})

it('a node that refuses to continue a log keeps its lease', async () => {
  const refusal = { type: 'error', seq: 0, code: 'context_length_exceeded', message: 'no room', param: null }
  const client = await Client.generate([[...begun, { die: true }], [refusal], rest])
  expect((await client.rest()).at(-1)).toMatchObject({ type: 'done' })
  expect(await suspended()).toEqual([])
})

it('the list of nodes needs the admin key', async () => {
  expect((await call('/admin/v1/nodes')).status).toBe(401)
  expect((await admin('/')).status).not.toBe(401)
})

it('a frame longer than any may be keeps its lease, and the stream goes on at another', async () => {
  const long = [{ tooLong: MAX_NODE_FRAME_CHARS + 1 }]
  const client = await Client.generate([[...begun, ...long], rest], { logprobs: 20 })
  expect((await client.rest()).slice(-4)).toMatchObject(rest)
  expect(await suspended()).toEqual([])
})

describe('an error of the edge itself', () => {
  const log = new StreamLog()
  const { stream, asked } = { stream: 's', asked: { model: 'demo', messages: [] } }
  const node = { id: 'n', url: undefined }

  it('in a check is not nonsense of the node', () => {
    const broken = vi.spyOn(log, 'append').mockImplementation(() => {
      throw new RangeError('ours')
    })
    const reader = new NodeReader({ stream, request: asked, log, node })
    const event = { ...accepted, seq: 0, stream }
    expect(reader.receive(raw([event]).raw)).toMatchObject({ retry: 'move', fault: 'none', runsOn: true })
    broken.mockRestore()
    expect(reader.receive('{')).toMatchObject({ retry: 'move', fault: 'nonsense' })
  })

  it('while a batch is passed on blames no node', async () => {
    const faults: string[] = []
    const sent: string[] = []
    const upstream = new Upstream({
      stream,
      request: asked,
      log,
      nodes: {
        pick: async () => node,
        leaseMs: async () => 10_000,
        reportFailure: () => faults.push('failed'),
        reportNonsense: () => faults.push('nonsense'),
        connect: async () => ({
          send: (frame) => sent.push(frame.type),
          listen: (onText) => {
            const seq = log.nextSeq
            const event = seq === 0 ? { ...accepted, stream } : { ...done(), reason: 'stop' }
            queueMicrotask(() => onText(raw([{ ...event, seq }]).raw))
          },
          close: () => {},
        }),
      },
      onNode: () => {},
      onBatch: () => {
        if (log.nextSeq === 1) throw new TypeError('ours')
      },
      onLost: (error) => faults.push(error.code),
      reportError: () => {},
    })
    await upstream.run()
    expect(faults).toEqual([])
    expect(sent).toEqual(['start', 'cancel', 'ack', 'start'])
    expect(log.last).toMatchObject({ type: 'done' })
  })
})

describe('what a node may send', () => {
  const batch = (rows: number) => ({ rows: Array<number>(4 * rows).fill(1), events: [] })
  const asked = (fields: object) => ({ model: 'demo', messages: [], ...fields })

  it('follows from the tokens of the request, or from the context', () => {
    const within = new NodeAllowance(asked({ max_tokens: 1000 }), undefined)
    within.take(batch(3000), '')
    expect(() => within.take(batch(5000), '')).toThrow('rows')
    const context = new NodeAllowance(asked({ max_tokens: 1_000_000 }), 1000)
    expect(() => context.take(batch(8000), '')).toThrow('rows')
  })

  it('is more for log-probabilities', () => {
    const text = 'x'.repeat(30_000 * 20)
    expect(() => new NodeAllowance(asked({ max_tokens: 20 }), undefined).take(batch(20), text)).toThrow()
    expect(() =>
      new NodeAllowance(asked({ max_tokens: 20, logprobs: 20 }), undefined).take(batch(30), text),
    ).not.toThrow()
  })
})

describe('JSON that is nested deeply', () => {
  const deep = () => JSON.parse(`${'{"a":'.repeat(4000)}1${'}'.repeat(4000)}`)

  it.each([
    ['/v1/chat/completions', { messages: [] }, 'chat_template_kwargs'],
    ['/v1/messages', { max_tokens: 1, messages: [] }, 'tools'],
    ['/v1/responses', { input: 'hi' }, 'tools'],
    ['/tokenize', { messages: [] }, 'chat_template_kwargs'],
  ])('%s refuses it', async (path, fields, param) => {
    const json = { ...fields, model: 'demo', [param]: param === 'tools' ? [deep()] : { deep: deep() } }
    const response = await call(path, { method: 'POST', json })
    expect([response.status, await response.json()]).toMatchObject([400, { error: { param } }])
  })

  it('so does a WebSocket', async () => {
    const client = await Client.generate([accepted, done()], { chat_template_kwargs: { deep: deep() } })
    expect(await client.rest()).toMatchObject([
      { type: 'error', code: 'invalid_request', param: 'chat_template_kwargs' },
    ])
  })
})
