import { afterEach, beforeAll, describe, expect, test, vi } from 'vitest'
import WebSocket from 'ws'
import { type BranchStream, openStream, type StreamEvent } from '../../client/index.ts'
import { buildEdge } from '../../edge/build.mjs'
import { type LocalFleet, startFleet } from './fleet.ts'

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
  // The client notices a gap by itself; deltas that were merged on the way count for several.
  const seqs = events.map(({ seq }) => seq)
  expect(seqs).toEqual([...new Set(seqs)].sort((a, b) => a - b))
  return events
}

describe('a gpu node that is killed', () => {
  test('costs no text: another one goes on with the branches', { timeout: 120_000 }, async () => {
    fleet = await startFleet({ nodes: 2 })
    const whole = await open().text()
    let killed = 0
    const stream = open()
    const events = await read(stream, async (event) => {
      const live = stream.tree.branches().filter(({ reason }) => reason === undefined)
      if (killed === 0 && event.type === 'delta' && live.length > 2) {
        killed = await fleet.killBusiest()
      }
    })
    expect(killed).toBeGreaterThan(0)
    expect(events.at(-1)).toMatchObject({ type: 'done', reason: 'stop' })
    expect(stream.tree.text()).toBe(whole)
  })

  test('takes no other stream along either', { timeout: 120_000 }, async () => {
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

test('a gpu node that is told to end hands its streams over', { timeout: 120_000 }, async () => {
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

test('an edge that is restarted finds its streams again', { timeout: 120_000 }, async () => {
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

test('a client that is cut at random points loses and doubles nothing', { timeout: 120_000 }, async () => {
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

test('a client that says goodbye frees its blocks at once', { timeout: 60_000 }, async () => {
  fleet = await startFleet({ nodes: 1 })
  const stream = open('What is a shell?', { temperature: 2, seed: 1, max_tokens: 900 })
  for await (const event of stream) if (event.type === 'delta') break
  await vi.waitFor(async () => expect(await fleet.load()).toMatchObject([{ running: 0, waiting: 0 }]), {
    timeout: 10_000,
  })
})
