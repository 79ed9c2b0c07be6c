import { describe, expect, it } from 'vitest'
import { EventCheck } from '../../edge/streams/event-check.ts'
import type { StreamEvent } from '../../shared/protocol/events.ts'
import type { Heartbeat } from '../../shared/protocol/fleet.ts'
import { GenerateRequest } from '../../shared/protocol/request.ts'
import {
  accepted,
  branchEnd,
  Client,
  deregister,
  done,
  fakeNodeUrl,
  framesSeenByNode,
  heartbeat,
  register,
  request,
} from './support.ts'

const SEPARATES: Heartbeat = {
  ...heartbeat(),
  capacity: { ...heartbeat().capacity, start_fields: ['separate_reasoning'] },
}
const at = (path: string, node: Heartbeat) => ({ ...node, url: `${fakeNodeUrl}/${path}` })
/** The last one is what the node does. */
const asking = (steps: unknown[]) => [
  { role: 'user', content: 'one' },
  { role: 'assistant', content: 'two', reasoning_content: 'hm' },
  { role: 'user', content: JSON.stringify(steps) },
]

interface Asked {
  separate_reasoning?: boolean
  messages: { reasoning_content?: string }[]
}

async function requests(stream: string): Promise<Asked[]> {
  const frames = await framesSeenByNode(stream)
  return frames.filter(({ type }) => type === 'start').map(({ request }) => request as Asked)
}

const thought = (text: string) => ({ type: 'reasoning', branch: 0, text })
const rest = [branchEnd(0), done()]

describe('reasoning', () => {
  it('is asked for from a node that knows it, with that of earlier turns', async () => {
    await register('one', at('one', SEPARATES))
    const steps = [[accepted, thought('a'), ...rest]]
    const messages = asking(steps)
    const client = await Client.generate(steps, { messages })
    const { stream } = (await client.next()) as { stream: string }
    expect(await client.rest()).toMatchObject([thought('a'), ...rest])
    expect(await requests(stream)).toMatchObject([{ separate_reasoning: true, messages }])
    const whole = await Client.generate([[accepted, ...rest]], { separate_reasoning: false })
    const other = (await whole.next()) as { stream: string }
    await whole.rest()
    expect(await requests(other.stream)).toMatchObject([{ separate_reasoning: false }])
    await deregister('one')
  })

  it('is text, and not in the prompt, at a node that does not know it', async () => {
    await register('one', at('one', heartbeat()))
    const steps = [[accepted, ...rest]]
    const messages = asking(steps)
    const client = await Client.generate(steps, { messages })
    const { stream } = (await client.next()) as { stream: string }
    await client.rest()
    const [request] = await requests(stream)
    expect(request).not.toHaveProperty('separate_reasoning')
    expect(request?.messages).toEqual(messages.map(({ role, content }) => ({ role, content })))
    await deregister('one')
  })

  it.each([
    [
      'as text',
      heartbeat(),
      { new: at('new', SEPARATES) },
      { type: 'delta', branch: 0, text: '<think>' },
      undefined,
    ],
    [
      'apart',
      SEPARATES,
      {
        old: at('old', heartbeat()),
        new: at('new', { ...SEPARATES, load: { running: 50, waiting: 50, free_blocks: 50 } }),
      },
      thought('a'),
      true,
    ],
  ] as const)('stays %s in a stream that moves', async (_, one, later, first, separate) => {
    await register('one', at('one', one))
    const script = [[accepted, first, { await: 'cancel_branch' }, { die: true }], rest]
    const client = await Client.generate(script, {})
    const { stream } = (await client.next()) as { stream: string }
    await client.next()
    await Promise.all(Object.entries(later).map(([id, node]) => register(id, node)))
    client.send({ type: 'cancel_branch', branch: 7 })
    expect(await client.rest()).toMatchObject(rest)
    const asked = await requests(stream)
    expect(asked.map(({ separate_reasoning }) => separate_reasoning)).toEqual([separate, separate])
    await Promise.all(['one', ...Object.keys(later)].map(deregister))
  })

  it.each([
    ['behind text', [{ type: 'delta', branch: 0, text: 'a' }, thought('b')], 'behind its text'],
    [
      'of a fork at another place',
      [thought('ab'), { type: 'fork', branch: 1, parent: 0, at: 0, reasoning_at: 1 }],
      'a fork at 1 of a reasoning of 2',
    ],
  ])('%s is nonsense', (_, events, why) => {
    const check = new EventCheck('s', GenerateRequest.parse(request([])), undefined, [])
    const all = events.map((event, index) => ({ seq: index + 1, ...event }) as StreamEvent)
    expect(() => {
      for (const event of all) check.check(event)
    }).toThrow(why)
  })
})
