import { afterEach, beforeAll, describe, expect, test, vi } from 'vitest'
import WebSocket from 'ws'
import { type BranchStream, openStream, type StreamEvent } from '../../client/index.ts'
import { buildEdge } from '../../edge/build.mjs'
import { type LocalFleet, startFleet } from './fleet.ts'
import { Call, idsOf, type SseEvent, textsOf } from './http-client.ts'

let fleet: LocalFleet
beforeAll(() => buildEdge())
afterEach(() => fleet?.close())

const PROMPTS = ['How do I use tar?', 'How do I use git stash?', 'What is a symbolic link?']

function open(prompt = PROMPTS[0] ?? '', more: object = {}): BranchStream {
  const request = {
    model: 'demo',
    messages: [{ role: 'user' as const, content: prompt }],
    temperature: 0,
    max_tokens: 700,
    ...more,
  }
  return openStream({ baseUrl: fleet.url, apiKey: fleet.key, request, WebSocket })
}

async function read(stream: BranchStream, onEvent = async (_: StreamEvent, __: number) => {}) {
  const events: StreamEvent[] = []
  for await (const event of stream) {
    events.push(event)
    await onEvent(event, events.length)
  }
  // The client itself throws at a gap; here seqs may skip numbers, because merged deltas count for several events.
  const seqs = events.map(({ seq }) => seq)
  expect(seqs).toEqual([...new Set(seqs)].sort((a, b) => a - b))
  return events
}

describe('a gpu node that is killed', () => {
  test('loses no text: another node continues the branches', { timeout: 120_000 }, async () => {
    fleet = await startFleet({ nodes: 2 })
    const whole = await open().text()
    // An answer takes the engine some 50 ms: it may be complete before the kill, though the client has not read all
    // of it.
    let hit = 0
    for (let attempt = 0; hit === 0 && attempt < 20; attempt++) {
      if (attempt > 0) await fleet.addNode()
      let killed = 0
      const stream = open()
      const events = await read(stream, async (event) => {
        const live = stream.tree.branches().filter(({ reason }) => reason === undefined)
        if (killed > 0 || event.type !== 'delta' || live.length < 2) return
        const { pid, running } = await fleet.killBusiest()
        killed = pid
        hit = running
      })
      expect(killed).toBeGreaterThan(0)
      expect(events.at(-1)).toMatchObject({ type: 'done', reason: 'stop' })
      expect(stream.tree.text()).toBe(whole)
    }
    expect(hit).toBeGreaterThan(0)
  })

  test('loses no text of other streams either', { timeout: 120_000 }, async () => {
    fleet = await startFleet({ nodes: 3 })
    const whole = new Map<string, string>()
    for (const prompt of PROMPTS) whole.set(prompt, await open(prompt).text())
    const streams = [...PROMPTS, ...PROMPTS].map((prompt) => ({ prompt, stream: open(prompt) }))
    let seen = 0
    const texts = await Promise.all(
      streams.map(async ({ prompt, stream }) => {
        await read(stream, async () => {
          if (++seen === 60 || seen === 200) await fleet.killBusiest()
        })
        return [prompt, stream.tree.text()] as const
      }),
    )
    for (const [prompt, text] of texts) expect(text).toBe(whole.get(prompt))
  })
})

async function askOverHttp(prompt: string, streamed: boolean, more: object = {}): Promise<string> {
  return (await answerOverHttp(prompt, streamed, more)).text
}

/** Text and token ids of a call without a session: the worker itself moves the stream to another node. */
async function answerOverHttp(prompt: string, streamed: boolean, more: object = {}) {
  const messages = [{ role: 'user', content: prompt }]
  const body = { model: 'demo', messages, temperature: 0, max_tokens: 700, stream: streamed, ...more }
  const call = new Call(fleet, 'POST', '/v1/chat/completions', body)
  expect(await call.status()).toBe(200)
  if (!streamed) {
    const [choice] = JSON.parse(await call.text()).choices
    return { text: choice.message.content as string, ids: choice.token_ids as number[] | undefined }
  }
  const events: SseEvent[] = []
  for await (const event of call.events()) events.push(event)
  expect(events.at(-1)?.data).toBe('[DONE]')
  return { text: textsOf(events)[0] ?? '', ids: idsOf(events)[0] }
}

/** Greedy, and long enough for a kill in the middle: the end token is forbidden. */
const LONG = { max_tokens: 800, logit_bias: { 2: -100 }, apar: { enabled: false } }

describe('an HTTP call that cannot be resumed', () => {
  test('continues when its gpu node is killed, before or after its first token', {
    timeout: 120_000,
  }, async () => {
    // Each node decodes two answers at a time; the others wait for their first token.
    fleet = await startFleet({ nodes: 2, nodeArgs: ['--max-branches', '2'] })
    const wants = { ...LONG, return_token_ids: true }
    const whole = new Map<string, unknown>()
    for (const prompt of PROMPTS) whole.set(prompt, await answerOverHttp(prompt, false, wants))
    const calls = [...PROMPTS, ...PROMPTS, ...PROMPTS, ...PROMPTS].map(async (prompt, index) => {
      return { prompt, answer: await answerOverHttp(prompt, index % 2 === 0, wants) }
    })
    const halfWay = async () => {
      const loads = await fleet.load()
      // On each node some answers have begun, and some have not.
      for (const { running, waiting } of loads) expect(Math.min(running, waiting)).toBeGreaterThan(0)
    }
    await vi.waitFor(halfWay, { timeout: 30_000, interval: 2 })
    expect((await fleet.killBusiest()).running).toBeGreaterThan(0)
    for (const { prompt, answer } of await Promise.all(calls)) expect(answer).toEqual(whole.get(prompt))
  })

  test('reaches a live node while a dead one still has its lease', {
    timeout: 120_000,
  }, async () => {
    fleet = await startFleet({ nodes: 2 })
    const [prompt = ''] = PROMPTS
    const whole = await askOverHttp(prompt, false)
    await fleet.killBusiest()
    // Its lease has not expired yet, so some of these calls are sent to it first.
    const texts = await Promise.all(Array.from({ length: 8 }, (_, i) => askOverHttp(prompt, i % 2 === 0)))
    expect(texts).toEqual(Array(8).fill(whole))
  })
})

test('streams do not continue with another numeric type: they end with model_changed, and keep their text', {
  timeout: 120_000,
}, async () => {
  fleet = await startFleet({ nodes: 1 })
  await fleet.addNode(['--dtype', 'int8'])
  const serial = { logit_bias: { 2: -100 }, branching: { enabled: false }, max_tokens: 800 }
  const eight = () => Array.from({ length: 8 }, () => open(PROMPTS[0], serial))
  // Of both nodes.
  const whole = await Promise.all(eight().map((stream) => stream.text()))
  let killed: Promise<{ running: number }> | undefined
  const outcomes = await Promise.all(
    eight().map(async (stream) => {
      let code = 'done'
      try {
        for await (const event of stream) if (event.type === 'delta') killed ??= fleet.killBusiest()
      } catch (error) {
        code = (error as { code: string }).code
      }
      const text = stream.tree.text()
      expect(whole.some((answer) => answer.startsWith(text))).toBe(true)
      return code
    }),
  )
  expect((await killed)?.running).toBeGreaterThan(0)
  expect([...new Set(outcomes)].sort()).toEqual(['done', 'model_changed'])
})

test('an SSE client resumes after a restart of the edge', { timeout: 120_000 }, async () => {
  fleet = await startFleet({ nodes: 1 })
  const [prompt = ''] = PROMPTS
  const whole = await askOverHttp(prompt, false, LONG)
  const ask = (lastEventId?: string) => {
    const messages = [{ role: 'user', content: prompt }]
    const apar = { ...LONG.apar, resumable: true }
    const body = { model: 'demo', messages, temperature: 0, stream: true, ...LONG, apar }
    const headers = lastEventId === undefined ? {} : { 'last-event-id': lastEventId }
    return new Call(fleet, 'POST', '/v1/chat/completions', body, headers).events()
  }
  const events: SseEvent[] = []
  for await (const event of ask()) {
    events.push(event)
    if (events.length === 3) break
  }
  await fleet.restartEdge()
  for await (const event of ask(events.at(-1)?.id)) events.push(event)
  expect(events.at(-1)?.data).toBe('[DONE]')
  expect(new Set(events.map(({ id }) => id)).size).toBe(events.length)
  expect(textsOf(events)).toEqual([whole])
})

test('a gpu node that gets SIGTERM hands its streams over', { timeout: 120_000 }, async () => {
  fleet = await startFleet({ nodes: 2, drainSeconds: 0 })
  const whole = await open().text()
  let ended: Promise<void> | undefined
  const stream = open()
  await read(stream, async (event) => {
    if (event.type === 'fork') ended ??= fleet.terminateBusiest()
  })
  await ended
  expect(stream.tree.text()).toBe(whole)
})

test('an edge that was restarted finds its streams again', { timeout: 120_000 }, async () => {
  fleet = await startFleet({ nodes: 1 })
  const whole = await open().text()
  let restarted = false
  const stream = open()
  await read(stream, async (event) => {
    if (event.type !== 'fork' || restarted) return
    restarted = true
    await fleet.restartEdge()
  })
  expect(restarted).toBe(true)
  expect(stream.tree.text()).toBe(whole)
})

test('a client that is disconnected at random points gets every event once', {
  timeout: 120_000,
}, async () => {
  fleet = await startFleet({ nodes: 1 })
  const whole = await open().text()
  const sockets: WebSocket[] = []
  class Recorded extends WebSocket {
    constructor(url: string, protocols: string[]) {
      super(url, protocols)
      sockets.push(this)
    }
  }
  for (let round = 0; round < 5; round++) {
    let next = 1 + Math.floor(Math.random() * 30)
    let cuts = 0
    const request = {
      model: 'demo',
      messages: [{ role: 'user' as const, content: PROMPTS[0] ?? '' }],
      temperature: 0,
    }
    const stream = openStream({
      baseUrl: fleet.url,
      apiKey: fleet.key,
      request: { ...request, max_tokens: 700 },
      WebSocket: Recorded,
    })
    await read(stream, async (_, count) => {
      if (count < next) return
      next = count + 1 + Math.floor(Math.random() * 60)
      cuts++
      sockets.at(-1)?.terminate()
    })
    expect(cuts).toBeGreaterThan(0)
    expect(stream.tree.text()).toBe(whole)
  }
})

test('a client that closes its stream frees its blocks at once', { timeout: 60_000 }, async () => {
  fleet = await startFleet({ nodes: 1 })
  const stream = open('What is a shell?', { temperature: 2, seed: 1, max_tokens: 900 })
  for await (const event of stream) if (event.type === 'delta') break
  await vi.waitFor(async () => expect(await fleet.load()).toMatchObject([{ running: 0, waiting: 0 }]), {
    timeout: 10_000,
  })
})
