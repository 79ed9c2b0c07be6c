import { SELF } from 'cloudflare:test'
import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import {
  accepted,
  branchEnd,
  Client,
  call,
  delta,
  deregister,
  done,
  evict,
  fakeNodeUrl,
  framesSeenByNode,
  heartbeat,
  register,
  request,
} from './support.ts'

const OURS = 'fp_00aa-bf16-bf16-01'
const OTHER_DEVICE = 'fp_00aa-bf16-bf16-02'
const OTHER_WEIGHTS = 'fp_00bb-bf16-bf16-01'
const OTHER_TYPE = 'fp_00aa-int8-bf16-01'

const registered = new Set<string>()

/** Each at an address of its own; the fake node plays all of them. */
async function nodes(fingerprints: Record<string, string | undefined>): Promise<void> {
  for (const [id, fingerprint] of Object.entries(fingerprints)) {
    const model = { id: 'demo', created: 1_700_000_000, context_tokens: 512 }
    const models = [fingerprint === undefined ? model : { ...model, fingerprint }]
    expect((await register(id, heartbeat({ url: `${fakeNodeUrl}/${id}`, models }))).status).toBe(200)
    registered.add(id)
  }
}

beforeEach(() => {
  vi.spyOn(console, 'warn').mockImplementation(() => {})
})
afterEach(async () => {
  vi.restoreAllMocks()
  await Promise.all([...registered].map(deregister))
  registered.clear()
})

const begun = [{ ...accepted, fingerprint: OURS }, delta(0, 'a')]
const rest = [delta(0, 'b'), branchEnd(0), done()]
/** The node that began leaves, as one that shuts down; `then` happens before the stream looks for another. */
const script = (...later: unknown[][]) => [
  [...begun, { await: 'cancel_branch' }, { restart: true }],
  ...later,
]

async function movedStream(...later: unknown[][]): Promise<Client> {
  const client = await Client.generate(script(...later))
  for (const _ of begun) await client.next()
  return client
}

it('a stream goes on at a node with the same weights, whatever its device', async () => {
  await nodes({ ours: OURS })
  const client = await movedStream(rest)
  await deregister('ours')
  await nodes({ wrong: OTHER_WEIGHTS, type: OTHER_TYPE, right: OTHER_DEVICE })
  const seen = vi.spyOn(Math, 'random')
  client.send({ type: 'cancel_branch', branch: 9 })
  expect(await client.rest()).toMatchObject(rest)
  // One candidate is left to choose from.
  expect(seen).toHaveBeenCalled()
})

it.each([
  ['other weights', OTHER_WEIGHTS],
  ['another numeric type', OTHER_TYPE],
])(
  'a stream ends with model_changed, and keeps its text, when only %s are left',
  async (_, fingerprint) => {
    await nodes({ ours: OURS })
    const client = await movedStream(rest)
    await deregister('ours')
    await nodes({ wrong: fingerprint })
    client.send({ type: 'cancel_branch', branch: 9 })
    const events = await client.rest()
    expect(events).toMatchObject([{ type: 'error', seq: 2, code: 'model_changed' }])
  },
  40_000,
)

it('so does an HTTP call without a session', { timeout: 40_000 }, async () => {
  await nodes({ ours: OURS, wrong: OTHER_WEIGHTS })
  const refusal = {
    type: 'error',
    seq: 0,
    code: 'model_changed',
    message: 'differs in checkpoint',
    param: null,
  }
  // Whichever of the two began, the other one is not asked.
  const { messages } = request([[...begun, { restart: true }], [refusal]])
  const json = { model: 'demo', messages }
  const response = await call('/v1/chat/completions', { method: 'POST', json })
  expect(response.status).toBe(502)
  expect(await response.json()).toMatchObject({ error: { code: 'model_changed' } })
})

it('a node that says nothing of its weights continues a stream, and may refuse it without a fault', async () => {
  await nodes({ ours: OURS })
  const refusal = { type: 'error', seq: 0, code: 'model_changed', message: 'differs in dtype', param: null }
  const client = await movedStream([refusal], rest)
  await deregister('ours')
  await nodes({ old: undefined, older: undefined })
  client.send({ type: 'cancel_branch', branch: 9 })
  expect(await client.rest()).toMatchObject(rest)
})

it('a session that was restarted compares, too', { timeout: 40_000 }, async () => {
  vi.spyOn(console, 'error').mockImplementation(() => {})
  await nodes({ ours: OURS })
  const first = await Client.generate(script(rest))
  const event = await first.next()
  if (event?.type !== 'accepted') throw new Error('there is no stream')
  await first.next()
  await evict(event.stream)
  const second = await Client.resume(event.stream, 0)
  expect(await second.next()).toMatchObject({ type: 'delta', seq: 1 })
  await deregister('ours')
  await nodes({ wrong: OTHER_WEIGHTS })
  second.send({ type: 'cancel_branch', branch: 9 })
  expect(await second.rest()).toMatchObject([{ type: 'error', seq: 2, code: 'model_changed' }])
  const frames = await framesSeenByNode(event.stream)
  expect(frames.filter(({ type }) => type === 'start')).toHaveLength(1)
})

it('model list, readiness and the list of nodes say what differs', async () => {
  await nodes({ ours: OURS, twin: OTHER_DEVICE })
  const list = async () => (await (await call('/v1/models')).json<{ data: object[] }>()).data
  const ready = async () => (await SELF.fetch('http://edge/readyz')).json()
  expect(await list()).toMatchObject([{ id: 'demo', fingerprints: [OURS, OTHER_DEVICE] }])
  expect((await list())[0]).not.toHaveProperty('differs')
  expect(await ready()).toEqual({ status: 'ready', reasons: [] })
  const warn = vi.spyOn(console, 'warn')
  await nodes({ type: OTHER_TYPE, wrong: OTHER_WEIGHTS })
  expect(warn.mock.calls.join()).toMatch(/gpu nodes of a model differ.*"differs":"checkpoint,dtype"/)
  const differs = ['checkpoint', 'dtype']
  expect(await list()).toMatchObject([{ id: 'demo', differs }])
  const warnings = ['checkpoint_differs', 'dtype_differs']
  expect(await ready()).toEqual({ status: 'ready', reasons: [], warnings })
  const admin = await call('/admin/v1/nodes', { key: 'admin-key-of-the-tests' })
  const { data, differing_models } = await admin.json<{ data: object[]; differing_models: object[] }>()
  expect(differing_models).toMatchObject([{ id: 'demo', differs }])
  expect(data).toContainEqual(expect.objectContaining({ id: 'type', suspended: null }))
})
