import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import WebSocket from 'ws'
import { openStream } from '../../client/index.ts'
import { buildEdge } from '../../edge/build.mjs'
import { Call } from './http-client.ts'
import { type Stack, startStack } from './stack.ts'

const CHAT = '/v1/chat/completions'
/**
 * Eight answers that end only at the model's context length, because the end token is forbidden. That takes the engine
 * seconds.
 */
const CHOICES = 8
const messages = [{ role: 'user' as const, content: 'How do I use tar?' }]
const endless = { model: 'demo', messages, temperature: 1, seed: 1, logit_bias: { 2: -100 } }
// This API has no logit_bias.
const response = { model: 'demo', input: 'How do I use tar?', ignore_eos: true, apar: { enabled: true } }
const call = { ...endless, n: CHOICES, apar: { enabled: false } }

let stack: Stack
let before: { aborted: number; ended: number; usedBlocks: number }

beforeAll(async () => {
  await buildEdge()
  stack = await startStack({ metricsSecret: 'metrics-secret' })
})

afterAll(() => stack?.close())

beforeEach(async () => {
  before = { ...(await finishedRequests()), usedBlocks: stack.node.runner.stats().usedBlocks }
})

/** The gpu node's counts of requests that were aborted, and of those that ended otherwise. */
async function finishedRequests(): Promise<{ aborted: number; ended: number }> {
  const url = `${stack.node.url.replace(/^ws/, 'http')}/metrics`
  const response = await fetch(url, { headers: { authorization: 'Bearer metrics-secret' } })
  const counts = (await response.text())
    .split('\n')
    .filter((line) => line.startsWith('apar_request_success_total{'))
    .map((line) => ({
      abort: line.includes('finished_reason="abort"'),
      count: Number(line.split(' ').at(-1)),
    }))
  const sum = (abort: boolean) => {
    return counts.filter((each) => each.abort === abort).reduce((total, { count }) => total + count, 0)
  }
  return { aborted: sum(true), ended: sum(false) }
}

async function running(requests: number): Promise<void> {
  const check = () => {
    const { runningRequests, waitingRequests, usedBlocks } = stack.node.runner.stats()
    expect(runningRequests + waitingRequests).toBe(requests)
    expect(usedBlocks).toBeGreaterThan(before.usedBlocks)
  }
  await vi.waitFor(check, { timeout: 30_000, interval: 2 })
}

/**
 * Waits until the edge has aborted the `requests`, and nothing of them is left in engine, node and key limits. On a busy
 * machine some of several, less than half, may reach their end first.
 */
async function freed(requests: number): Promise<void> {
  const check = async () => {
    const { runningRequests, waitingRequests, liveBranches, usedBlocks } = stack.node.runner.stats()
    expect({ runningRequests, waitingRequests, liveBranches, usedBlocks }).toEqual({
      runningRequests: 0,
      waitingRequests: 0,
      liveBranches: 0,
      usedBlocks: before.usedBlocks,
    })
    const { aborted, ended } = await finishedRequests()
    expect(aborted + ended).toBe(before.aborted + before.ended + requests)
    expect(aborted - before.aborted).toBeGreaterThanOrEqual(requests / 2)
    const usage = JSON.parse(await new Call(stack, 'GET', '/v1/usage').text())
    expect(usage).toMatchObject({ open_streams: 0, reserved_tokens: 0 })
  }
  await vi.waitFor(check, { timeout: 30_000 })
}

describe('a client that disconnects frees its blocks', () => {
  it.each([
    ['with cancel', (stream: ReturnType<typeof openStream>) => stream.cancel()],
    ['by closing its socket', () => {}],
  ])('over WebSocket, %s', async (_, leave) => {
    const request = { ...endless, branching: { enabled: false } }
    const stream = openStream({ baseUrl: stack.url, apiKey: stack.key, request, WebSocket })
    for await (const event of stream) {
      if (event.type !== 'delta') continue
      leave(stream)
      break
    }
    await freed(1)
  })

  it.each([
    ['closes its connection', CHAT, call, CHOICES, (client: Call) => client.close()],
    ['resets its connection', CHAT, call, CHOICES, (client: Call) => client.reset()],
    ['called /v1/responses', '/v1/responses', response, 1, (client: Call) => client.close()],
  ])('over SSE, when it %s', async (_, path, body, requests, leave) => {
    const client = new Call(stack, 'POST', path, { ...body, stream: true })
    for await (const _ of client.events()) break
    await leave(client)
    await freed(requests)
  })

  it('when its connection is reset while it waits for a whole answer', async () => {
    const client = new Call(stack, 'POST', CHAT, call)
    await running(CHOICES)
    await client.reset()
    await freed(CHOICES)
  })

  it('when it deletes its resumable streams', async () => {
    const body = { ...call, stream: true, apar: { ...call.apar, resumable: true } }
    const client = new Call(stack, 'POST', CHAT, body)
    let names: string[] = []
    for await (const { id } of client.events()) {
      names = id.split(',').map((each) => each.split('.')[0] ?? '')
      break
    }
    expect(new Set(names).size).toBe(CHOICES)
    const deleted = names.map((name) => new Call(stack, 'DELETE', `/v1/streams/${name}`).status())
    expect(await Promise.all(deleted)).toEqual(Array(CHOICES).fill(204))
    await freed(CHOICES)
  })
})
