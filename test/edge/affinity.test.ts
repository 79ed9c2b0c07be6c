import { createExecutionContext, env, waitOnExecutionContext } from 'cloudflare:test'
import { beforeEach, describe, expect, it } from 'vitest'
import { createApp } from '../../edge/app.ts'
import { fleetOf } from '../../edge/nodes/fleet.ts'
import { nodesOf } from '../../edge/nodes/fleet-nodes.ts'
import type { RouteRequest } from '../../edge/nodes/node-registry.ts'
import { readSessionHeaders, sessionHeaders } from '../../edge/streams/session-headers.ts'
import { accepted, branchEnd, delta, done, KEY, newKey, registerTwo } from './support.ts'

const script = JSON.stringify([accepted, delta(0, 'a'), branchEnd(0), done()])
const user = { role: 'user', content: script }

/** How the fleet was asked for nodes in one call. */
async function routesOf(path: string, json: object, key = KEY): Promise<RouteRequest[]> {
  const seen: RouteRequest[] = []
  const pick = (route: RouteRequest) => {
    seen.push(route)
    return fleetOf(env).pick(route)
  }
  const FLEET = { getByName: () => ({ pick, leaseMs: (id: string) => fleetOf(env).leaseMs(id) }) }
  const headers = { authorization: `Bearer ${key}` }
  const body = JSON.stringify({ model: 'demo', max_tokens: 8, ...json })
  const context = createExecutionContext()
  const request = new Request(`http://edge${path}`, { method: 'POST', headers, body })
  const response = await createApp().fetch(request, { ...env, FLEET }, context)
  expect([response.status, await response.text()]).toMatchObject([200, expect.any(String)])
  await waitOnExecutionContext(context)
  return seen
}

async function affinityOf(path: string, json: object, key = KEY): Promise<string | undefined> {
  const [route] = await routesOf(path, json, key)
  return route?.stays ? route.affinity : undefined
}

beforeEach(async () => {
  await registerTwo()
})

describe('prompt_cache_key', () => {
  it.each([
    ['/v1/chat/completions', { messages: [user] }],
    ['/v1/completions', { prompt: script }],
    ['/v1/responses', { input: script, max_tokens: undefined }],
  ])('of %s keeps the calls of one key together, and no others', async (path, json) => {
    const ask = (prompt_cache_key?: string, key = KEY) => affinityOf(path, { ...json, prompt_cache_key }, key)
    const { key } = await newKey()
    const one = await ask('one')
    expect(one).toMatch(/^[0-9a-f]{64}$/)
    expect(await ask('one')).toBe(one)
    expect(await ask('two')).not.toBe(one)
    expect(await ask('one', key)).not.toBe(one)
    expect(await ask()).toBeUndefined()
  })

  it('makes the fleet choose the same node each time', async () => {
    const pick = async (affinity: string) => {
      const { id } = await nodesOf(env, () => {}, affinity).pick(
        { model: 'demo', messages: [user] } as never,
        [],
      )
      return id
    }
    const home = await pick('one')
    // New nodes get few requests at first.
    expect([await pick('one'), await pick('one')]).toEqual([home, home])
  })

  it('reaches the session of a stream that can be resumed', () => {
    const headers = sessionHeaders({ affinity: 'abc' })
    expect(readSessionHeaders(new Request('http://session', { headers }))).toMatchObject({ affinity: 'abc' })
  })
})

describe('choices', () => {
  it('of one prompt stay together, and others do not join them', async () => {
    const routes = await routesOf('/v1/completions', { prompt: [script, script], n: 2 })
    const [a, b, c, d] = routes.map(({ affinity, stays }) => stays && affinity)
    expect(a).toEqual(expect.any(String))
    expect([b, d]).toEqual([a, c])
    expect(c).not.toBe(a)
    const [next] = await routesOf('/v1/chat/completions', { messages: [user], n: 2 })
    expect(next?.affinity).not.toBe(a)
  })
})

describe('cache_control', () => {
  const cache_control = { type: 'ephemeral' }
  const last = { role: 'user', content: [{ type: 'text', text: script, cache_control }] }
  const turn = (text: string) => ({ role: 'user', content: text })
  const ask = (json: object) => affinityOf('/v1/messages', json)

  it('keeps the turns of a conversation together', async () => {
    const first = await ask({ messages: [last] })
    expect(first).toMatch(/^[0-9a-f]{64}$/)
    const moved = [
      { role: 'user', content: [{ type: 'text', text: script }] },
      { role: 'assistant', content: 'a' },
      last,
    ]
    expect(await ask({ messages: moved })).toBe(first)
    expect(await ask({ messages: [turn('other'), { role: 'assistant', content: 'a' }, last] })).not.toBe(
      first,
    )
    expect(await ask({ messages: moved.slice(0, 1) })).toBeUndefined()
    expect(await ask({ messages: moved.slice(0, 1), cache_control })).toBe(first)
  })

  it('keeps conversations together that begin with the same marked text', async () => {
    const system = [{ type: 'text', text: 'Long rules.', cache_control }]
    const first = await ask({ system, messages: [turn(script)] })
    expect(await ask({ system, messages: [turn('Hi'), { role: 'assistant', content: 'a' }, last] })).toBe(
      first,
    )
  })
})
