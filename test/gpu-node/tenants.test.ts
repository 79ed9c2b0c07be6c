import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { serveRequest } from '../../gpu-node/requests/request-socket.ts'
import { ServedStreams } from '../../gpu-node/requests/served-streams.ts'
import { TenantNumbers } from '../../gpu-node/requests/tenant-numbers.ts'
import { NodeFrame } from '../../shared/protocol/node.ts'
import type { ScriptedEngine } from '../support/scripted-engine.ts'
import { scriptedRunner } from '../support/scripted-node.ts'
import { type TinyFolder, tinyCheckpoint } from '../support/tiny-checkpoint.ts'

let folder: TinyFolder
let engine: ScriptedEngine
let streams: ServedStreams

beforeEach(async () => {
  folder = tinyCheckpoint()
  const scripted = await scriptedRunner(folder)
  engine = scripted.engine
  streams = new ServedStreams(scripted.runner)
})
afterEach(() => folder.remove())

let started = 0

/** Sends a `start` frame with these fields; returns the events of the first answer. */
async function start(fields: object): Promise<{ type: string }[]> {
  const answers: string[] = []
  let receive = (_: unknown, __: boolean) => {}
  serveRequest(
    {
      send: (text: unknown) => void answers.push(String(text)),
      close: () => {},
      terminate: () => {},
      ping: () => {},
      bufferedAmount: 0,
      on: (event: string, listener: (...args: never[]) => void) => {
        if (event === 'message') receive = listener as typeof receive
      },
    },
    streams,
  )
  const request = { model: 'tiny', messages: [{ role: 'user', content: 'hi' }] }
  receive(JSON.stringify({ type: 'start', stream: `s${started++}`, request, ...fields }), false)
  await vi.waitFor(() => expect(answers).not.toEqual([]))
  return JSON.parse(answers[0] ?? '').events
}

test('the streams of a tenant have its number, weight and priority in the engine', async () => {
  await start({ tenant: { id: 'a', weight: 2, priority: 1 } })
  await start({ tenant: { id: 'b' } })
  await start({ tenant: { id: 'a', weight: 3, priority: 0 } })
  await start({})
  expect(engine.submitted.map(({ tenant }) => tenant)).toEqual([
    { id: 1, weight: 2, priority: 1 },
    { id: 2, weight: 1, priority: 0 },
    { id: 1, weight: 3, priority: 0 },
    { id: 0, weight: 1, priority: 0 },
  ])
})

test.each([{ weight: 0 }, { weight: 1e9 }, { priority: 100 }, { id: '' }])(
  '%o is refused',
  async (fields) => {
    expect((await start({ tenant: { id: 'a', ...fields } }))[0]).toMatchObject({
      type: 'error',
      code: 'invalid_request',
    })
    expect(engine.submitted).toEqual([])
  },
)

test('a start frame of an older edge has no tenant', () => {
  const frame = {
    type: 'start',
    stream: 's',
    request: { model: 'm', messages: [{ role: 'user', content: 'x' }] },
  }
  expect(NodeFrame.parse(frame)).toMatchObject({ type: 'start' })
})

test('the numbers of tenants are different, and only so many are remembered', () => {
  const numbers = new TenantNumbers()
  const numberOf = (id: string) => numbers.toEngine({ id, weight: 1, priority: 0 }).id
  const first = numberOf('first')
  const ids = new Set(Array.from({ length: 9_999 }, (_, index) => numberOf(`t${index}`)))
  expect(ids.size).toBe(9_999)
  expect(numberOf('first')).toBe(first)
  numberOf('one more')
  expect(numberOf('t0')).toBeGreaterThan(10_000)
})
