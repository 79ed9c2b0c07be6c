import { beforeEach, expect, it } from 'vitest'
import { accepted, branchEnd, call, delta, done, newKey, register, request } from './support.ts'

const STEPS = [accepted, delta(0, 'hi'), branchEnd(0), done()]
/** At the top, within a message, and within one type of several. */
const UNKNOWN = {
  nonsense: 1,
  messages: [{ role: 'user', content: [{ type: 'text', text: JSON.stringify(STEPS), more: 2 }], mine: 3 }],
}

beforeEach(async () => {
  await register('unknown-fields')
})

function create(key: string, fields: object): Promise<Response> {
  return call('/v1/chat/completions', { method: 'POST', key, json: request(STEPS, fields) })
}

it('a key ignores unknown fields at every depth, and the answer names them', async () => {
  const { key } = await newKey({ unknown_fields: 'ignore' })
  const response = await create(key, UNKNOWN)
  expect(response.status).toBe(200)
  const named = response.headers.get('x-apar-ignored-fields')?.split(', ').sort()
  expect(named).toEqual(['messages.0.content.0.more', 'messages.0.mine', 'nonsense'])
  const known = await create(key, {})
  expect([known.status, known.headers.get('x-apar-ignored-fields')]).toEqual([200, null])
})

it('what it knows and cannot do is still refused', async () => {
  const { key } = await newKey({ unknown_fields: 'ignore' })
  const response = await create(key, { nonsense: 1, tool_choice: 'required' })
  expect(await response.json()).toMatchObject({ error: { param: 'tool_choice' } })
})

it('other keys get a refusal, and nothing is reserved for it', async () => {
  const { id, key } = await newKey({ limits: { concurrent_streams: 1 } })
  for (let i = 0; i < 3; i++) {
    const response = await create(key, UNKNOWN)
    expect(response.status).toBe(400)
    expect(await response.json()).toMatchObject({ error: { code: 'invalid_request' } })
  }
  const { key: stranger } = { key: `apar_${id}_${'x'.repeat(32)}` }
  expect((await create(stranger, UNKNOWN)).status).toBe(401)
  expect((await create(key, {})).status).toBe(200)
})

it('a name of a field cannot end the header', async () => {
  const { key } = await newKey({ unknown_fields: 'ignore' })
  const response = await create(key, { 'a\r\nb: c, ü': 1 })
  expect([response.status, response.headers.get('x-apar-ignored-fields')]).toEqual([200, 'a??b:?c???'])
})

it.each([
  ['/tokenize', { prompt: 'hi' }],
  ['/tokenize', { messages: [{ role: 'user', content: 'hi' }] }],
  ['/detokenize', { tokens: [1] }],
  ['/v1/messages/count_tokens', { messages: [{ role: 'user', content: 'hi' }] }],
  ['/v1/responses/input_tokens', { input: 'hi' }],
])('%s of %j does as the calls that generate', async (path, fields) => {
  const paramFor = async (settings: object) => {
    const { key } = await newKey(settings)
    const json = { ...fields, nonsense: 1, model: 'none' }
    const response = await call(path, { method: 'POST', key, json })
    const { error } = await response.json<{ error: { param: string } }>()
    return error.param
  }
  expect(await paramFor({})).toBe('nonsense')
  expect(await paramFor({ unknown_fields: 'ignore' })).toBe('model')
})
