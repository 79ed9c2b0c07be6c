import { afterEach, describe, expect, it } from 'vitest'
import type { ChatCompletion } from '../../shared/openai.ts'
import type { Heartbeat } from '../../shared/protocol/fleet.ts'
import {
  accepted,
  branchEnd,
  Client,
  call,
  delta,
  deregister,
  done,
  fakeNodeUrl,
  fork,
  framesSeenByNode,
  heartbeat,
  register,
} from './support.ts'

const KNOWS = heartbeat({
  capacity: { branches: 8, blocks: 100, start_fields: ['output_format', 'parallel_format'] },
})
const OLDER = heartbeat({ capacity: { branches: 8, blocks: 100, start_fields: ['output_format'] } })

const at = (path: string, node: Heartbeat) => ({ ...node, url: `${fakeNodeUrl}/${path}` })

const registered: string[] = []
async function add(id: string, node: Heartbeat) {
  registered.push(id)
  await register(id, node)
}
afterEach(async () => {
  await Promise.all(registered.splice(0).map(deregister))
})

async function seen(stream: string): Promise<unknown[]> {
  const starts = (await framesSeenByNode(stream)).filter(({ type }) => type === 'start')
  return starts.map(({ request }) => (request as { parallel_format?: boolean }).parallel_format)
}

const member = fork(0, 1, 1)

describe('apar.parallel_format', () => {
  it.each([
    ['reaches a node that knows it', KNOWS, true],
    ['does not reach a node of an older version, which decodes serially', OLDER, undefined],
  ])('%s', async (_, node, expected) => {
    await add('one', node)
    const content = JSON.stringify([accepted, delta(0, '{}'), branchEnd(0), done()])
    const json = {
      ...{ model: 'demo', messages: [{ role: 'user', content }], apar: { parallel_format: true } },
      response_format: { type: 'json_object' },
    }
    const answer = await (await call('/v1/chat/completions', { method: 'POST', json })).json<ChatCompletion>()
    expect(answer.choices[0]?.message.content).toBe('{}')
    expect(await seen(answer.id.replace('chatcmpl-', ''))).toEqual([expected])
  })
})

describe('a stream that moves', () => {
  const fields = {
    parallel_format: true,
    output_format: { type: 'json_schema', schema: { type: 'object' } },
  }

  /** The stream has begun on the one with `begun`, and leaves it for one of `later`. */
  async function moved(begun: object[], one: Heartbeat, later: Record<string, Heartbeat>) {
    const rest = [delta(0, 'b'), ...(begun.includes(member) ? [branchEnd(1)] : []), branchEnd(0), done()]
    await add('begins', at('begins', one))
    const client = await Client.generate(
      [[...begun, { await: 'cancel_branch' }, { die: true }], rest],
      fields,
    )
    const { stream } = (await client.next()) as { stream: string }
    for (const _ of begun.slice(1)) await client.next()
    for (const [id, node] of Object.entries(later)) await add(id, at(id, node))
    client.send({ type: 'cancel_branch', branch: 7 })
    expect(await client.rest()).toMatchObject(rest)
    return await seen(stream)
  }

  it('with its members goes on only at a node that knows them', async () => {
    // The other would be chosen for its load.
    const loaded = { ...KNOWS, load: { running: 50, waiting: 50, free_blocks: 50 } }
    const begun = [accepted, delta(0, '{'), member]
    expect(await moved(begun, KNOWS, { old: OLDER, new: loaded })).toEqual([true, true])
  })

  it('from an older node stays serial', async () => {
    expect(await moved([accepted, delta(0, '{')], OLDER, { new: KNOWS })).toEqual([undefined, undefined])
  })
})
