import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import WebSocket from 'ws'
import {
  AparError,
  type BranchStream,
  OrderedText,
  openStream,
  type StreamEvent,
} from '../../client/index.ts'
import { StreamEvent as EventSchema } from '../../shared/protocol/events.ts'
import type { GenerateRequest } from '../../shared/protocol/request.ts'
import { type Stack, startStack } from './stack.ts'

let stack: Stack
beforeAll(async () => {
  stack = await startStack()
})
afterAll(async () => {
  await stack?.close()
})

const PROMPT = 'How do I use tar?'

function open(more: Partial<GenerateRequest> = {}, apiKey = stack.key): BranchStream {
  const messages = [{ role: 'user' as const, content: PROMPT }]
  const request = { model: 'demo', messages, temperature: 0, max_tokens: 300, ...more }
  return openStream({ baseUrl: stack.url, apiKey, request, WebSocket })
}

async function read(stream: BranchStream): Promise<StreamEvent[]> {
  const events: StreamEvent[] = []
  for await (const event of stream) events.push(event)
  return events
}

async function health(): Promise<{ capacity: { blocks: number }; load: Record<string, number> }> {
  const response = await fetch(`${stack.node.url.replace('ws:', 'http:')}/healthz`)
  return (await response.json()) as { capacity: { blocks: number }; load: Record<string, number> }
}

async function everythingIsFree(): Promise<void> {
  const check = async () => {
    const { capacity, load } = await health()
    expect(load).toEqual({ running: 0, waiting: 0, live_branches: 0, free_blocks: capacity.blocks })
  }
  await vi.waitFor(check, { timeout: 30_000 })
}

describe('a stream over WebSocket', () => {
  test('forks, and follows the protocol', async () => {
    const stream = open()
    const events = await read(stream)
    expect(events.map((event) => EventSchema.parse(event).seq)).toEqual(events.map((_, index) => index))
    expect(events[0]).toMatchObject({ type: 'accepted', version: 1, model: 'demo', joints: 'kept' })
    expect(events.filter(({ type }) => type === 'fork').length).toBeGreaterThan(1)

    const branches = stream.tree.branches()
    const done = events.at(-1)
    if (done?.type !== 'done') throw new Error('the stream did not end in done')
    expect(done.usage.branches.map(({ branch }) => branch).sort()).toEqual(
      branches.map(({ id }) => id).sort(),
    )
    const counted = done.usage.branches.reduce((sum, { completion_tokens }) => sum + completion_tokens, 0)
    expect(done.usage.completion_tokens).toBe(counted)
    const ends = events.filter(({ type }) => type === 'branch_end')
    expect(ends).toHaveLength(branches.length)
    await everythingIsFree()
  })

  test('decodes several branches at the same time', async () => {
    const live = new Set([0])
    let most = 0
    const grewBesideOthers = new Set<number>()
    for await (const event of open()) {
      if (event.type === 'fork') live.add(event.branch)
      if (event.type === 'branch_end') live.delete(event.branch)
      if (event.type === 'delta' && live.size > 1) grewBesideOthers.add(event.branch)
      most = Math.max(most, live.size)
    }
    expect(most).toBeGreaterThan(2)
    expect(grewBesideOthers.size).toBeGreaterThan(2)
  })

  test('gives the same text again, equal to its ordered pieces', async () => {
    const stream = open()
    const ordered = new OrderedText()
    let pieces = ''
    for await (const event of stream) pieces += ordered.push(event)
    expect(pieces).toBe(stream.tree.text())
    expect(await open().text()).toBe(pieces)
  })

  test('gives the same sampled text for the same seed, whatever else runs', async () => {
    const sampled = { temperature: 1, seed: 42, max_tokens: 120 }
    const alone = await open(sampled).text()
    const others = [1, 2, 3].map((seed) => open({ ...sampled, seed }).text())
    expect(await open(sampled).text()).toBe(alone)
    expect(new Set(await Promise.all(others)).size).toBe(3)
  })

  test('does not branch when branching is disabled or limited to one', async () => {
    for (const branching of [{ enabled: false }, { max_depth: 1 }, { max_branches: 1 }]) {
      const events = await read(open({ branching }))
      expect(events.map(({ type }) => type)).not.toContain('fork')
    }
  })

  test('equals serial decoding up to the first fork', async () => {
    const parallel = open()
    await parallel.text()
    const first = parallel.tree.branch(1)?.at ?? 0
    const serial = await open({ branching: { enabled: false } }).text()
    expect(serial.slice(0, first)).toBe(parallel.tree.branch(0)?.text.slice(0, first))
  })

  test('treats control tokens in a prompt as text', async () => {
    const messages = [{ role: 'user' as const, content: 'What is [Fork]? </s>[Child]<s>' }]
    const events = await read(open({ messages, max_tokens: 8 }))
    expect(events.at(-1)).toMatchObject({ type: 'done' })
    const letters = await read(open({ messages: [{ role: 'user', content: 'What is' }], max_tokens: 8 }))
    const prompt = (list: StreamEvent[]) => {
      const end = list.at(-1)
      return end?.type === 'done' ? end.usage.prompt_tokens : 0
    }
    // As control tokens they would be four tokens; as text they are many more.
    expect(prompt(events) - prompt(letters)).toBeGreaterThan(8)
  })

  test('ends at a stop string, branch by branch', async () => {
    const whole = open()
    await whole.text()
    const [root] = whole.tree.branches()
    const stop = root?.text.slice(3, 8) ?? ''
    const stream = open({ stop: [stop] })
    await stream.text()
    expect(stream.tree.branch(0)).toMatchObject({
      text: root?.text.slice(0, root.text.indexOf(stop)),
      reason: 'stop',
    })
  })

  test('ends by length when the tokens are used up', async () => {
    const events = await read(open({ max_tokens: 20 }))
    expect(events.at(-1)).toMatchObject({ type: 'done', reason: 'length', usage: { completion_tokens: 20 } })
  })
})

/** Long enough for a cancel to come before the end: at this temperature an answer hardly ever ends by itself. */
const LONG = { max_tokens: 20_000, temperature: 2, seed: 1 }

describe('cancelling', () => {
  test('ends the stream with reason abort and frees every block', async () => {
    const stream = open(LONG)
    const events: StreamEvent[] = []
    for await (const event of stream) {
      events.push(event)
      if (event.type === 'accepted') stream.cancel()
    }
    expect(events.at(-1)).toMatchObject({ type: 'done', reason: 'abort' })
    await everythingIsFree()
  })

  test('happens when the client disconnects', async () => {
    const many = Array.from({ length: 4 }, (_, seed) => open({ ...LONG, seed }))
    await Promise.all(
      many.map(async (stream) => {
        for await (const event of stream) if (event.type === 'delta') break
      }),
    )
    await everythingIsFree()
  })

  test('of one branch does not end the others', async () => {
    const reasons: (string | undefined)[] = []
    // A branch may end by itself before it is cancelled: then another answer is tried.
    for (let seed = 1; seed <= 8 && !reasons.includes('abort'); seed++) {
      const stream = open({ ...LONG, seed })
      const cancelled: number[] = []
      for await (const event of stream) {
        if (event.type !== 'fork') continue
        cancelled.push(event.branch)
        stream.cancelBranch(event.branch)
      }
      reasons.push(...cancelled.map((branch) => stream.tree.branch(branch)?.reason))
      expect(stream.tree.branch(0)?.reason).not.toBe('abort')
    }
    expect(reasons).toContain('abort')
    await everythingIsFree()
  })
})

describe('refusals', () => {
  test.each([
    [{ model: 'nope' }, { code: 'model_not_found', param: 'model' }],
    [{ temperature: -1 }, { code: 'invalid_request', param: 'temperature' }],
    [{ messages: [] }, { code: 'invalid_request', param: 'messages' }],
    [{ branching: { max_depth: 0 } }, { code: 'invalid_request', param: 'branching.max_depth' }],
  ])('%j', async (fields, error) => {
    const failing = open(fields as Partial<GenerateRequest>).text()
    await expect(failing).rejects.toMatchObject(error)
    await expect(failing).rejects.toBeInstanceOf(AparError)
  })

  test('a wrong key', async () => {
    await expect(open({}, `${stack.key}x`).text()).rejects.toMatchObject({ code: 'invalid_api_key' })
  })
})
