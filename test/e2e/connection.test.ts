import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import WebSocket from 'ws'
import { type Connection, openConnection, openStream } from '../../client/index.ts'
import { buildEdge } from '../../edge/build.mjs'
import { type Stack, startStack } from './stack.ts'

let stack: Stack
let connection: Connection
/** Streams without `accepted` yet. Before that event a stream cannot be resumed, so no socket is cut. */
let notAccepted = 0
let cuts = 0

/** The first three sockets break in the middle of the answers. */
class Fragile extends WebSocket {
  constructor(url: string, protocols: string[]) {
    super(url, protocols)
    let messages = 0
    this.on('message', (data) => {
      if (String(data).includes('"accepted"')) notAccepted--
      if (notAccepted > 0 || cuts === 3 || ++messages < 15) return
      cuts++
      this.terminate()
    })
  }
}

beforeAll(async () => {
  await buildEdge()
  stack = await startStack()
  connection = openConnection({ baseUrl: stack.url, apiKey: stack.key, WebSocket: Fragile })
})
afterAll(async () => {
  connection?.close()
  await stack?.close()
})

const PROMPTS = ['How do I use tar?', 'How do I use git stash?', 'What is a symbolic link?']

function request(prompt: string, more: object = {}) {
  const messages = [{ role: 'user' as const, content: prompt }]
  return { model: 'demo', messages, temperature: 0, max_tokens: 250, ...more }
}

function alone(prompt: string): Promise<string> {
  const options = { baseUrl: stack.url, apiKey: stack.key, request: request(prompt), WebSocket }
  return openStream(options).text()
}

test('twelve concurrent answers over one socket, cut three times, equal those over separate sockets', async () => {
  const whole = new Map<string, string>()
  for (const prompt of PROMPTS) whole.set(prompt, await alone(prompt))
  const streams = [...PROMPTS, ...PROMPTS, ...PROMPTS, ...PROMPTS].map((prompt) => {
    return { prompt, stream: connection.stream(request(prompt)) }
  })
  notAccepted = streams.length
  const texts = await Promise.all(
    streams.map(async ({ prompt, stream }) => [prompt, await stream.text()] as const),
  )
  for (const [prompt, text] of texts) expect(text).toBe(whole.get(prompt))
  expect(cuts).toBe(3)
})

test('a cancelled request frees its resources, and the others continue', async () => {
  const endless = connection.stream(request('What is a shell?', { temperature: 2, seed: 1, max_tokens: 900 }))
  const other = connection.stream(request(PROMPTS[0] ?? ''))
  for await (const event of endless) if (event.type === 'delta') break
  expect(await other.text()).toBe(await alone(PROMPTS[0] ?? ''))
  const health = `${stack.node.url.replace('ws:', 'http:')}/healthz`
  await vi.waitFor(
    async () => {
      const { load } = (await (await fetch(health)).json()) as { load: object }
      expect(load).toMatchObject({ running: 0, live_branches: 0 })
    },
    { timeout: 10_000 },
  )
})
