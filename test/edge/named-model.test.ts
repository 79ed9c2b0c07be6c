import { afterEach, beforeEach, expect, it } from 'vitest'
import {
  accepted,
  branchEnd,
  call,
  delta,
  deregister,
  done,
  fakeNodeUrl,
  heartbeat,
  newKey,
  register,
} from './support.ts'

const STEPS = JSON.stringify([accepted, delta(0, 'hi'), branchEnd(0), done()])
const messages = [{ role: 'user', content: STEPS }]
const OTHER = heartbeat({
  url: `${fakeNodeUrl}/b`,
  models: [{ id: 'other', created: 1_700_000_000, context_tokens: 512 }],
})
/** Calls that name no model. */
const CALLS: [string, object][] = [
  ['/v1/chat/completions', { messages }],
  ['/v1/completions', { prompt: STEPS }],
  ['/v1/responses', { input: STEPS }],
  ['/v1/messages', { messages, max_tokens: 4 }],
]

beforeEach(async () => {
  await register('named-model')
})
afterEach(async () => {
  await deregister('other-model')
})

it.each(CALLS)('%s takes the only model that is served', async (path, json) => {
  const response = await call(path, { method: 'POST', json })
  expect(response.status).toBe(200)
  expect(await response.json()).toMatchObject({ model: 'demo' })
})

it('may be left out where the call is authorized early for another reason', async () => {
  const create = (json: object) => call('/v1/responses', { method: 'POST', json: { input: STEPS, ...json } })
  const first = await (await create({})).json<{ id: string; output: { id: string }[] }>()
  const input = [{ type: 'item_reference', id: first.output[0]?.id }, ...messages]
  for (const json of [{ previous_response_id: first.id }, { input }, { background: true }]) {
    expect(await (await create(json)).json()).toMatchObject({ object: 'response', model: 'demo' })
  }
  const json = { messages, stream: true, apar: { resumable: true } }
  const resumable = await call('/v1/chat/completions', { method: 'POST', json })
  expect(await resumable.text()).toContain('data: [DONE]')
})

it.each(CALLS)('%s asks for a name where several are served', async (path, json) => {
  await register('other-model', OTHER)
  const response = await call(path, { method: 'POST', json })
  expect(response.status).toBe(400)
  const error = expect.objectContaining({ message: expect.stringContaining('model: is required') })
  expect(await response.json()).toMatchObject({ error })
})

it('takes the only one that the key may use', async () => {
  await register('other-model', OTHER)
  const { key } = await newKey({ models: ['demo'] })
  const response = await call('/v1/chat/completions', { method: 'POST', key, json: { messages } })
  expect(await response.json()).toMatchObject({ model: 'demo' })
})

it('is not said to a stranger, nor before the rest of the call is right', async () => {
  const stranger = await call('/v1/completions', { method: 'POST', key: 'none', json: { prompt: STEPS } })
  expect(stranger.status).toBe(401)
  const wrong = await call('/v1/completions', { method: 'POST', json: { prompt: STEPS, n: 0 } })
  expect(await wrong.json()).toMatchObject({ error: { param: 'n' } })
})
